import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.data.chat_template import ResponseTooLong, encode
from rmkit.data.collators import PairCollator, PairPacker, Segments, encode_pairs, pack, repeat_packed


def make_pairs(count=3, **columns):
    rows = {
        "id": [f"pair-{number}" for number in range(count)],
        "prompt": [[{"role": "user", "content": "Question " * (number + 1)}] for number in range(count)],
        "chosen": [[{"role": "assistant", "content": "Good " * (count - number)}] for number in range(count)],
        "rejected": [[{"role": "assistant", "content": "Bad"}] for _ in range(count)],
        "source": ["test"] * count,
    }
    return Dataset.from_dict({**rows, **columns})


def test_encode_pairs_is_encode_row_by_row(any_tokenizer):
    pairs = make_pairs(target=[1.0, 0.9, 0.0], margin=[0.0, -1.0, 2.0])
    encoded = encode_pairs(pairs, any_tokenizer, 100)
    assert set(encoded.column_names) == {
        "target", "margin", "input_ids_chosen", "input_ids_rejected", "length", "tokens"
    }
    assert (encoded["target"][:], encoded["margin"][:]) == (pairs["target"][:], pairs["margin"][:])
    for row, pair in zip(encoded, pairs, strict=True):
        sides = [encode(any_tokenizer, pair["prompt"], pair[side], 100).input_ids for side in ("chosen", "rejected")]
        assert [row["input_ids_chosen"], row["input_ids_rejected"]] == sides
        assert row["length"] == max(len(side) for side in sides)
        assert row["tokens"] == pack([sides])["input_ids"].numel() < sum(map(len, sides))


def test_overlong_names_the_pair(llama):
    with pytest.raises(ResponseTooLong, match="^pair pair-0: response"):
        encode_pairs(make_pairs(), llama, 15)


def test_collator_lays_chosen_before_rejected_and_pads_right(gpt):
    rows = [
        {"input_ids_chosen": [5, 6, 7], "input_ids_rejected": [8], "length": 3, "target": 1.0, "margin": 0.5},
        {"input_ids_chosen": [9, 10], "input_ids_rejected": [11, 12, 13, 14], "length": 4, "target": 0.1, "margin": -2},
    ]
    batch = PairCollator(gpt)(rows)
    pad = gpt.pad_token_id
    assert batch["input_ids"].tolist() == [
        [5, 6, 7, pad], [9, 10, pad, pad], [8, pad, pad, pad], [11, 12, 13, 14]
    ]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    torch.testing.assert_close(batch["target"], torch.tensor([1.0, 0.1]))
    torch.testing.assert_close(batch["margin"], torch.tensor([0.5, -2.0]))
    assert batch["target"].dtype == torch.float32
    unlabelled = [{name: row[name] for name in ("input_ids_chosen", "input_ids_rejected")} for row in rows]
    assert set(PairCollator(gpt)(unlabelled)) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("second", [{}, {"target": None}, {"target": float("nan")}])
def test_a_label_missing_in_one_row_is_refused(gpt, second):
    row = {"input_ids_chosen": [1], "input_ids_rejected": [2], "length": 1}
    for rows in ([{**row, "target": 1.0}, {**row, **second}], [{**row, **second}, {**row, "target": 1.0}]):
        with pytest.raises(InputError, match="target: expected a finite number in every row"):
            PairCollator(gpt)(rows)


def test_a_tokenizer_without_pad_token_is_refused(gpt):
    gpt.pad_token = None
    with pytest.raises(InputError, match="pad token"):
        PairCollator(gpt)([{"input_ids_chosen": [1], "input_ids_rejected": [2]}])


TOKENS = st.lists(st.integers(1, 3), min_size=1, max_size=8)


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


@given(st.lists(st.lists(TOKENS, min_size=1, max_size=4), min_size=1, max_size=4))
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
