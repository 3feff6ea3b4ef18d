import numpy as np
import pytest

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import InputError, Verbatim, raise_input_error


def test_one_shape_for_every_complaint():
    with pytest.raises(InputError, match=r"^rate: expected a share, got '30'\. Write 0\.3\.$"):
        raise_input_error("rate", "a share", "30", "Write 0.3.")
    with pytest.raises(InputError, match=r"^rate: expected a share, got 30 words\. Write 0\.3\.$"):
        raise_input_error("rate", "a share", Verbatim("30 words"), "Write 0.3.")
    with pytest.raises(InputError, match=r"^a b: expected a share, got c d\. Write 0\.3\.$"):
        raise_input_error("a\nb", "a share", Verbatim("c\nd"), "Write 0.3.")
    with pytest.raises(ValueError) as caught:
        raise_input_error("rate", "a share", "x" * 5000, "Write 0.3.")
    assert len(str(caught.value)) < 250 and "... Write" in str(caught.value)


def test_arrays_are_finite_and_of_the_stated_axes():
    assert finite_array("gaps", [1, 2.5], ("pair",)).dtype == np.float64
    for values, match in (([], "filled"), ([[1.0]], "filled"), ([1.0, np.nan], "1 NaN"), (["a"], "numbers"),
                          ([[1], [1, 2]], "numbers"), ([None], "NaN|numbers")):
        with pytest.raises(InputError, match=match):
            finite_array("gaps", values, ("pair",))
    with pytest.raises(InputError, match=r"a: expected the shape of b, \(2, 1\)"):
        same_shape("a", np.zeros((1, 2)), "b", np.zeros((2, 1)))
