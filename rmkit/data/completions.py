"""Prompts with completions to learn, read from any usual file and encoded."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, List, Value
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.chat_template import Encoded
from rmkit.data.collators import collate_labels, pad_right
from rmkit.data.encoding import encode_dataset
from rmkit.data.rejected_rows import RejectedRows, parse_rows
from rmkit.data.schema import Messages, check_not_empty, read_messages, read_prompt, read_response, read_side
from rmkit.data.sources import Row

COMPLETION = "completion"


def read_completions(data: str, split: str, quarantine: RejectedRows) -> list[dict[str, Messages]]:
    """Rows of `prompt` and `completion`, both as messages, or of `messages`, whose last turn is the completion.

    Rows that cannot be used go into `quarantine`. Raises `InputError` where none can.
    """
    pairs = (pair for _, pair in parse_rows(data, split, split_row, quarantine))
    rows = [{"prompt": prompt, COMPLETION: completion} for prompt, completion in pairs]
    if not rows:
        seen = Verbatim(f"none; rejected: {dict(quarantine.reasons)}")
        expected = "a row with prompt and completion, or messages"
        raise_input_error(f"data {data}", expected, seen, f"See {quarantine.path}.")
    return rows


def split_row(row: Row) -> tuple[Messages, Messages]:
    """A row's prompt and completion."""
    content = row.columns
    if content.get("prompt") is None and content.get("messages") is not None:
        turns = read_messages(content["messages"], "messages")
        prompt, completion = turns[:-1], read_response(turns[-1:], [], "messages")
    else:
        prompt = read_prompt(content.get("prompt"))
        completion = read_response(read_side(content.get(COMPLETION), COMPLETION), prompt, COMPLETION)
    check_not_empty(prompt, "prompt")
    check_not_empty(completion, COMPLETION)
    return prompt, completion


def encode_sides(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, sides: Sequence[str]
) -> Dataset:
    """Token ids of every row's prompt followed by each of its `sides`, in `input_ids_SIDE`.

    `start_SIDE`: the index of the side's first token. `length`: of a row's longest sequence. `target` and `margin` are
    kept. Prompts are truncated from the left; rows of which a side alone exceeds `max_length` are left out.
    """
    tokens = {f"input_ids_{side}": List(Value("int32")) for side in sides}
    numbers = {name: Value("int32") for name in (*(f"start_{side}" for side in sides), "length")}

    def list_sides(name: str, responses: list[Encoded]) -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {"length": max(len(response.input_ids) for response in responses)}
        for side, response in zip(sides, responses, strict=True):
            row |= {f"input_ids_{side}": response.input_ids, f"start_{side}": response.response_start}
        yield row

    return encode_dataset(dataset, tokenizer, max_length, list_sides, {**tokens, **numbers}, sides=sides, labels=True,
                          starts=True, drop_too_long=True)


class CompletionCollator:
    """Rows of `encode_sides` as one padded batch: all rows' first sides, then their second ones.

    `input_ids`, `attention_mask`, `completion_mask`: [side * row, token], the last 1 on tokens of the side; `target`,
    `margin`: [row], where the rows have them. Other columns named in `numbers` follow as [row] float32.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, sides: Sequence[str], numbers: Sequence[str] = ()
    ) -> None:
        self.tokenizer = tokenizer
        self.sides = sides
        self.numbers = numbers

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        batch = pad_right([row[f"input_ids_{side}"] for side in self.sides for row in rows], self.tokenizer)
        starts = torch.tensor([row[f"start_{side}"] for side in self.sides for row in rows])
        positions = torch.arange(batch["input_ids"].shape[1])
        batch["completion_mask"] = ((positions >= starts[:, None]) * batch["attention_mask"]).long()
        for name in self.numbers:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float32)
        return {**batch, **collate_labels(rows)}
