import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rmkit.core.checks import InputError
from rmkit.preferences import RECIPES, adaptive_margin, repair_labels

# Group means read off Fig. 2 of arXiv 2401.06080
FIGURE_2 = np.array([-1.23, -0.58, -0.34, -0.18, -0.05, 0.06, 0.17, 0.27, 0.37, 0.48,
                     0.60, 0.72, 0.85, 0.99, 1.15, 1.34, 1.57, 1.87, 2.31, 3.43])
STRENGTHS = arrays(np.float64, st.integers(1, 40), elements=st.floats(-20, 20))


def loss_at(gaps, target, margin):
    """Slow reference: binary cross-entropy of sigmoid(gap - margin) against target, one number per pair."""
    shifted, target = np.asarray(gaps) - margin, np.asarray(target)
    return target * np.logaddexp(0, -shifted) + (1 - target) * np.logaddexp(0, shifted)


@pytest.mark.parametrize(("recipe", "kind", "loss"), [
    ("margin", "signed", 1.2008), ("flip+margin", "signed", 1.2913), ("margin", "nonnegative", 1.2484),
])
def test_initial_losses_of_the_papers_figures(recipe, kind, loss):
    repaired = repair_labels(FIGURE_2, recipe=recipe, margin=kind)
    assert loss_at(np.zeros(20), repaired.target, repaired.margin).mean() == pytest.approx(loss, abs=1e-4)


def test_a_flip_without_the_negated_margin_would_miss_the_figure():
    repaired = repair_labels(FIGURE_2, recipe="flip+margin")
    kept_sign = np.where(repaired.swapped, -repaired.margin, repaired.margin)
    assert loss_at(np.zeros(20), repaired.target, kept_sign).mean() != pytest.approx(1.2913, abs=1e-2)


def test_flip_swaps_the_lowest_share_and_nothing_else():
    repaired = repair_labels([0.5, -3.0, 1.0, -0.1, 2.0], recipe="flip", fraction=0.4)
    np.testing.assert_array_equal(repaired.swapped, [False, True, False, True, False])
    np.testing.assert_array_equal(repaired.target, np.ones(5))
    np.testing.assert_array_equal(repaired.margin, np.zeros(5))
    assert repaired.keep.all()
    assert repaired.action.tolist() == ["keep", "flip", "keep", "flip", "keep"]


def test_flipping_all_of_equal_strength_goes_by_their_order():
    np.testing.assert_array_equal(
        repair_labels(np.zeros(4), recipe="flip", fraction=0.5).swapped, [True, True, False, False]
    )


def test_smooth_moves_only_the_negative():
    repaired = repair_labels([-0.1, 0.0, 0.1], recipe="smooth", label_smoothing=0.3)
    np.testing.assert_allclose(repaired.target, [0.7, 1, 1])
    assert repaired.action.tolist() == ["smooth", "keep", "keep"]


def test_soft_is_the_sigmoid_of_strength():
    repaired = repair_labels([-1e4, 0.0, np.log(3), 1e4], recipe="soft")
    np.testing.assert_allclose(repaired.target, [0, 0.5, 0.75, 1], atol=1e-15)
    assert set(repaired.action) == {"soft"}


@pytest.mark.parametrize("recipe", ["drop", "drop+margin"])
def test_drop_lets_the_lowest_share_go(recipe):
    repaired = repair_labels([3.0, -1.0, 2.0, 1.0], recipe=recipe, fraction=0.25)
    np.testing.assert_array_equal(repaired.keep, [True, False, True, True])
    assert repaired.action[1] == "drop"
    assert repaired.margin[1] == 0


def test_clamped_margin_of_a_flipped_pair_is_of_its_new_strength():
    repaired = repair_labels([-3.0, -1.0, 2.0], recipe="flip+margin", fraction=1 / 3, margin="nonnegative")
    np.testing.assert_array_equal(repaired.margin, [3, 0, 2])


def test_given_targets_survive_a_flip_and_are_smoothed_like_labels():
    flipped = repair_labels([-1.0, 1.0], recipe="flip", fraction=0.5, target=[0.9, 0.6])
    np.testing.assert_array_equal(flipped.target, [0.9, 0.6])
    smoothed = repair_labels([-1.0, 1.0], recipe="smooth", label_smoothing=0.2, target=[0.9, 0.6])
    np.testing.assert_allclose(smoothed.target, [0.9 * 0.8 + 0.1 * 0.2, 0.6])


@pytest.mark.parametrize("recipe", RECIPES)
@given(strength=STRENGTHS, fraction=st.floats(0, 0.6), label_smoothing=st.floats(0, 0.5))
@settings(max_examples=25, deadline=None)
def test_every_recipe_keeps_the_rules_of_the_table(recipe, strength, fraction, label_smoothing):
    rule = RECIPES[recipe]
    count = round(fraction * len(strength))
    if rule.label == "drop" and count == len(strength):
        with pytest.raises(InputError, match="fraction"):
            repair_labels(strength, recipe=recipe, fraction=fraction)
        return
    repaired = repair_labels(strength, recipe=recipe, fraction=fraction, label_smoothing=label_smoothing)
    assert ((repaired.target >= 0) & (repaired.target <= 1)).all()
    assert repaired.swapped.sum() == (count if rule.label == "flip" else 0)
    assert (~repaired.keep).sum() == (count if rule.label == "drop" else 0)
    assert strength[repaired.swapped].max(initial=-np.inf) <= strength[~repaired.swapped].min(initial=np.inf)
    expected = np.where(repaired.swapped, -strength, strength) * repaired.keep if rule.margin else 0 * strength
    np.testing.assert_array_equal(repaired.margin, expected)
    assert all(action.endswith("+margin") == (rule.margin and kept)
               for action, kept in zip(repaired.action, repaired.keep, strict=True))


def test_a_flip_written_by_swapping_is_the_flipped_target_in_place():
    strength, gaps = np.array([-2.0, 1.0]), np.array([0.3, 0.7])
    repaired = repair_labels(strength, recipe="flip+margin", fraction=0.5)
    written = np.where(repaired.swapped, -gaps, gaps)
    in_place = loss_at(gaps, [0, 1], strength)
    np.testing.assert_allclose(loss_at(written, repaired.target, repaired.margin), in_place, atol=1e-12)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(loss_at(written, repaired.target, strength), in_place, atol=1e-3)


@pytest.mark.parametrize(
    ("strength", "changes", "names"),
    [
        ([1.0], {"recipe": "flop"}, "recipe.*none, soft, flip"),
        ([1.0], {"fraction": 10}, r"fraction: expected a number in \[0, 1\]"),
        ([1.0], {"label_smoothing": 0.7}, "label_smoothing"),
        ([1.0], {"label_smoothing": float("nan")}, "label_smoothing"),
        ([1.0], {"target": [0.2]}, r"target.*\[0.5, 1\]"),
        ([1.0], {"target": [1.0, 1.0]}, "target.*shape"),
        ([1.0], {"recipe": "drop", "fraction": 1.0}, "fraction.*at least one"),
        ([1.0], {"margin": "bogus"}, "kind.*signed, nonnegative"),
        ([1.0], {"margin_scale": -3.0, "margin": "scaled"}, "scale.*not negative"),
        ([np.nan], {}, "strength_mean.*finite"),
        ([[1.0]], {}, "strength_mean"),
        ([], {}, "strength_mean"),
    ],
)
def test_refuses(strength, changes, names):
    with pytest.raises(InputError, match=names):
        repair_labels(strength, **{"recipe": "flip", **changes})


STRENGTH = np.array([-2.0, 0.0, 1.5])


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, STRENGTH), ({"kind": "nonnegative"}, [0, 0, 1.5]), ({"kind": "scaled", "scale": 0.5}, [-1, 0, 0.75]),
])
def test_adaptive_margin(settings, expected):
    np.testing.assert_array_equal(adaptive_margin(STRENGTH, **settings), expected)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"kind": "absolute"}, "kind.*signed, nonnegative, scaled"),
        ({"scale": 0.5}, "scale.*scaled"),
        ({"kind": "scaled", "scale": -1.0}, "scale.*not negative"),
        ({"kind": "scaled", "scale": float("nan")}, "scale"),
        ({"strength": [1e308], "kind": "scaled", "scale": 10.0}, r"a number by which 1e\+308 can be multiplied"),
        ({"strength": np.zeros((2, 2))}, r"strength.*\[pair\]"),
    ],
)
def test_margin_refuses(settings, names):
    with pytest.raises(InputError, match=names):
        adaptive_margin(**{"strength": STRENGTH, **settings})
