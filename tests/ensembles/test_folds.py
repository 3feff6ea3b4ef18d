"""Folds: a prompt's pairs stay together, and the folds are of one size as far as that allows."""

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.ensembles.folds import assign_folds


def test_groups_stay_together_and_every_fold_is_used():
    groups = np.repeat([f"prompt {number}" for number in range(40)], np.arange(40) % 7 + 1)
    groups = np.random.default_rng(0).permutation(groups)
    folds = assign_folds(groups, 5, seed=1)
    for name in set(groups):
        assert len(set(folds[groups == name])) == 1
    sizes = np.bincount(folds)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 1  # the largest go first, so the small ones level the rest


def test_seed_decides_which_groups_meet():
    groups = np.arange(100)
    first, again, other = (assign_folds(groups, 4, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("folds", [1, 4])
def test_refuses_folds_that_cannot_be_made(folds):
    with pytest.raises(InputError, match="2 to 3, the number of prompts"):
        assign_folds(["a", "b", "b", "c"], folds, seed=0)


def test_refuses_groups_of_the_wrong_shape():
    with pytest.raises(InputError, match="one name per pair"):
        assign_folds([["a"], ["b"]], 2, seed=0)
