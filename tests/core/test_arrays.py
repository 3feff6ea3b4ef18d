"""Groups are numbered in the order of their names, and numbers that are so already are left as they are."""

import numpy as np
import pytest

from rmkit.core.arrays import group_indices


@pytest.mark.parametrize("groups", [
    ["b", "a", "c", "a"],
    [5, 1, 5, 9],
    [-1, 0, 1, 0],
    [0, 2, 2, 3],
    [0.5, -2.0, 0.5],
])
def test_names_are_numbered_in_their_order(groups):
    numbers, count = group_indices(groups)
    found, expected = np.unique(groups, return_inverse=True)
    np.testing.assert_array_equal(numbers, expected)
    assert count == len(found)


def test_numbers_from_0_on_that_are_all_in_use_are_given_back():
    groups = np.array([2, 0, 1, 2, 0], dtype=np.int32)
    numbers, count = group_indices(groups)
    assert numbers is groups and count == 3


def test_no_places_have_no_groups():
    numbers, count = group_indices(np.array([], dtype=np.int64))
    assert (len(numbers), count) == (0, 0)
