"""Packing: what a row holds, and that each sequence can be read back from it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.data.collators import PairCollator, PairPacker, Segments, pack, repeat_packed

tokens = st.lists(st.integers(1, 3), min_size=1, max_size=8)


def unpack(row):
    """The sequences of a row, in its order, by what `Segments` says of it."""
    ids, positions = row["input_ids"][0].tolist(), row["position_ids"][0].tolist()
    sequences, start = [], 0
    for length, prefix in zip(row["segments"].lengths, row["segments"].prefixes, strict=True):
        own = ids[start:start + length]
        assert positions[start:start + length] == list(range(prefix, prefix + length))
        if not prefix:
            first = own
        sequences.append(first[:prefix] + own)
        start += length
    assert start == len(ids)
    return sequences


@given(st.lists(st.lists(tokens, min_size=1, max_size=4), min_size=1, max_size=4))
def test_every_sequence_is_there(groups):
    row = pack(groups)
    assert unpack(row) == [sequence for group in groups for sequence in group]
    assert [row["input_ids"][0, place] for place in row["last"]] == [s[-1] for group in groups for s in group]
    assert len(set(row["last"].tolist())) == len(row["last"])


def test_a_shared_beginning_is_there_once():
    row = pack([[[5, 6, 7, 1], [5, 6, 7, 2, 3], [5, 6, 7]], [[9, 9], [8, 9]]])
    assert row["input_ids"].tolist() == [[5, 6, 7, 1, 7, 2, 3, 7, 9, 9, 8, 9]]  # a last token is nobody else's
    assert row["position_ids"].tolist() == [[0, 1, 2, 3, 2, 3, 4, 2, 0, 1, 0, 1]]
    assert row["last"].tolist() == [3, 6, 7, 9, 11]
    assert row["segments"] == Segments((4, 3, 1, 2, 2), (0, 2, 2, 0, 0))


def test_copies_follow_one_another():
    groups = [[[1, 2], [1, 3]], [[4]]]
    twice, written_out = repeat_packed(pack(groups), 2), pack(groups * 2)
    assert twice.keys() == written_out.keys() and twice["segments"] == written_out["segments"]
    assert all(torch.equal(twice[name], written_out[name]) for name in ("input_ids", "position_ids", "last"))


def test_pairs_are_in_the_order_of_the_padded_batch(gpt):
    rows = [
        {"input_ids_chosen": [1, 2, 3], "input_ids_rejected": [1, 2, 4, 5], "target": 0.9, "margin": 0.5},
        {"input_ids_chosen": [6], "input_ids_rejected": [7, 8], "target": 1.0, "margin": -0.5},
    ]
    packed, padded = PairPacker()(rows), PairCollator(gpt)(rows)
    ends = padded["input_ids"][torch.arange(4), padded["attention_mask"].sum(dim=1) - 1]
    assert torch.equal(packed["input_ids"][0, packed["last"]], ends)
    assert all(torch.equal(packed[name], padded[name]) for name in ("target", "margin"))
    del rows[1]["margin"]
    with pytest.raises(InputError, match="margin"):
        PairPacker()(rows)
