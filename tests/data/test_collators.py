import pytest
import torch
from datasets import Dataset

from rmkit.core.checks import InputError
from rmkit.data.chat_template import ResponseTooLong, encode
from rmkit.data.collators import PairCollator, encode_pairs, pack


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
    pairs = make_pairs()
    encoded = encode_pairs(pairs, any_tokenizer, 100)
    assert encoded.column_names == ["input_ids_chosen", "input_ids_rejected", "length", "tokens"]
    for row, pair in zip(encoded, pairs, strict=True):
        sides = [encode(any_tokenizer, pair["prompt"], pair[side], 100).input_ids for side in ("chosen", "rejected")]
        assert [row["input_ids_chosen"], row["input_ids_rejected"]] == sides
        assert row["length"] == max(len(side) for side in sides)
        assert row["tokens"] == pack([sides])["input_ids"].numel() < sum(map(len, sides))


def test_labels_are_kept_when_present(llama):
    encoded = encode_pairs(make_pairs(target=[1.0, 0.9, 0.0], margin=[0.0, -1.0, 2.0]), llama, 100)
    assert encoded["target"][:] == [1.0, 0.9, 0.0]
    assert encoded["margin"][:] == [0.0, -1.0, 2.0]


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


def test_collator_without_labels_gives_none(gpt):
    batch = PairCollator(gpt)([{"input_ids_chosen": [1], "input_ids_rejected": [2], "length": 1}])
    assert set(batch) == {"input_ids", "attention_mask"}


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
