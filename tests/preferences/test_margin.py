import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.preferences import adaptive_margin

STRENGTH = np.array([-2.0, 0.0, 1.5])


def test_signed_margin_is_the_strength_itself_and_a_copy_of_it():
    margin = adaptive_margin(STRENGTH)
    np.testing.assert_array_equal(margin, STRENGTH)
    margin[0] = 9.0
    assert STRENGTH[0] == -2.0


def test_clamped_margin_is_never_negative():
    np.testing.assert_array_equal(adaptive_margin(STRENGTH, kind="nonnegative"), [0, 0, 1.5])


def test_scaled_margin_changes_units():
    np.testing.assert_array_equal(adaptive_margin(STRENGTH, kind="scaled", scale=0.5), [-1, 0, 0.75])


@pytest.mark.parametrize("kind", ["signed", "scaled"])
def test_margin_of_the_turned_pair_is_the_negative(kind):
    np.testing.assert_array_equal(adaptive_margin(-STRENGTH, kind=kind), -adaptive_margin(STRENGTH, kind=kind))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"kind": "absolute"}, "kind.*signed, nonnegative, scaled"),
        ({"scale": 0.5}, "scale.*scaled"),
        ({"kind": "scaled", "scale": -1.0}, "scale.*not negative"),
        ({"kind": "scaled", "scale": float("nan")}, "scale"),
    ],
)
def test_refuses_settings_it_would_not_use(settings, names):
    with pytest.raises(InputError, match=names):
        adaptive_margin(STRENGTH, **settings)


def test_refuses_a_scale_that_overflows():
    with pytest.raises(InputError, match=r"scale: expected a number by which 1e\+308 can be multiplied, got 10.0"):
        adaptive_margin([1e308, 2.0], kind="scaled", scale=10.0)


def test_refuses_a_matrix():
    with pytest.raises(InputError, match=r"strength.*\[pair\]"):
        adaptive_margin(np.zeros((2, 2)))
