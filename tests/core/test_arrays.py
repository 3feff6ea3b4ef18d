"""Groups are numbered in the order of their names, keys in the order of their first rows."""

import numpy as np
import pytest

from rmkit.core.arrays import first_occurrences, group_indices, text_key


@pytest.mark.parametrize("groups", [
    ["b", "a", "c", "a"],
    [5, 1, 5, 9],
    [-1, 0, 1, 0],
    [0, 2, 2, 3],
    [0.5, -2.0, 0.5],
    [],
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


def test_keys_are_numbered_by_their_first_rows():
    texts = [str(number) for number in np.random.default_rng(0).integers(0, 50, 200)]
    keys = np.frombuffer(b"".join(map(text_key, texts)), np.uint64).reshape(-1, 2)
    order = list(dict.fromkeys(texts))
    assert first_occurrences(keys).tolist() == [order.index(text) for text in texts]
    assert first_occurrences(keys[:0]).tolist() == []
    half = keys.copy()
    half[:, 0] = 0  # one word alone does not make two keys equal
    assert first_occurrences(half).tolist() == first_occurrences(keys).tolist()
