"""Units and batches: every sequence once, in order, within the budget of tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmkit.data.collators import pack
from rmkit.data.token_batches import split_into_units, token_batches

GROUPS = [[[1, 2, 3, 4], [1, 2, 5], [1, 2, 6, 7]], [], [[9, 9]], [[4, 5], [5, 4, 4]]]
SEQUENCES = [sequence for group in GROUPS for sequence in group]


def split(groups, budget):
    return [unit for group in groups for unit in split_into_units(group, budget)]


def test_units_by_hand():
    units = split(GROUPS, 6)
    assert [unit["input_ids"] for unit in units] == [
        [[1, 2, 3, 4], [1, 2, 5]], [[1, 2, 6, 7]], [[9, 9]], [[4, 5], [5, 4, 4]]
    ]
    assert [(unit["tokens"], unit["sequences"]) for unit in units] == [(5, 2), (4, 1), (2, 1), (5, 2)]
    for budget in (None, 1):
        assert [unit["input_ids"] for unit in split(GROUPS, budget)] == [[sequence] for sequence in SEQUENCES]


@given(st.lists(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), max_size=5), max_size=4),
       st.integers(1, 20))
def test_units_hold_every_sequence_and_pack_into_the_budget(groups, tokens):
    units = split(groups, tokens)
    assert [one for unit in units for one in unit["input_ids"]] == [one for group in groups for one in group]
    for unit in units:
        assert pack([unit["input_ids"]])["input_ids"].shape[1] <= unit["tokens"]
        assert unit["tokens"] <= tokens or unit["sequences"] == 1


@pytest.mark.parametrize(("padded", "expected"), [
    (False, [[9], [4, 3], [3, 2, 1]]), (True, [[9], [4], [3, 3], [2, 1]]),
])
def test_batches_by_hand(padded, expected):
    sizes = np.array([9, 4, 3, 3, 2, 1])
    assert [sizes[batch].tolist() for batch in token_batches(sizes, 7, padded=padded)] == expected


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 50), st.booleans())
def test_batches_hold_every_unit_within_the_budget(sizes, tokens, padded):
    sizes = np.array(sorted(sizes, reverse=True), dtype=np.int32)
    batches = [sizes[batch].tolist() for batch in token_batches(sizes, tokens, padded=padded)]
    assert [size for batch in batches for size in batch] == sizes.tolist()
    for batch in batches:
        assert len(batch) == 1 or (len(batch) * batch[0] if padded else sum(batch)) <= tokens
