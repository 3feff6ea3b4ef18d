"""Prompts with completions to learn, read from any usual file and encoded."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.chat_template import ResponseTooLong, encode_rows, unwrap
from rmkit.data.collators import LABELS, collate_labels, pad_right
from rmkit.data.rejected_rows import RejectedRows, parse_rows
from rmkit.data.schema import InvalidRow, Messages, read_messages, read_prompt, read_response

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


def split_row(content: Mapping[str, Any]) -> tuple[Messages, Messages]:
    """A row's prompt and completion."""
    if content.get("prompt") is None and content.get("messages") is not None:
        turns = read_messages(content["messages"], "messages")
        prompt, completion = turns[:-1], read_response(turns[-1:], [], "messages")
    else:
        for name in ("prompt", COMPLETION):
            if content.get(name) is None:
                raise InvalidRow(f"missing {name}")
        prompt, side = read_prompt(content["prompt"]), content[COMPLETION]
        completion = read_response(side if isinstance(side, str) else read_messages(side, COMPLETION), prompt,
                                   COMPLETION)
    for name, messages in (("prompt", prompt), (COMPLETION, completion)):
        if not any(message["content"].strip() for message in messages):
            raise InvalidRow(f"empty {name}")
    return prompt, completion


def encode_sides(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, sides: Sequence[str]
) -> Dataset:
    """Token ids of every row's prompt followed by each of its `sides`, in `input_ids_SIDE`.

    `start_SIDE`: the index of the side's first token. `length`: of a row's longest sequence. `target` and `margin` are
    kept. Prompts are truncated from the left; rows of which a side alone exceeds `max_length` are left out.
    """
    labels = {name: dataset.features[name] for name in LABELS if name in dataset.column_names}
    tokens = {f"input_ids_{side}": List(Value("int32")) for side in sides}
    numbers = {name: Value("int32") for name in (*(f"start_{side}" for side in sides), "length")}
    features = Features({**labels, **tokens, **numbers})
    return dataset.map(
        encode_side_batch,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "max_length": max_length, "sides": sides, "features": features},
        remove_columns=dataset.column_names,
        features=features,
        load_from_cache_file=False,  # the cache's key does not see a change in how rmkit encodes
        desc="Tokenising completions",
    )


def encode_side_batch(
    batch: Mapping[str, list],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    sides: Sequence[str],
    features: Features,
) -> dict[str, list]:
    """Token ids of a batch of rows."""
    encoded: dict[str, list] = {name: [] for name in features}
    rows = list(zip(batch["prompt"], zip(*(batch[side] for side in sides), strict=True), strict=True))
    for index, responses in enumerate(encode_rows(tokenizer, rows, max_length)):
        if any(isinstance(response, ResponseTooLong) for response in responses):
            continue
        kept = [unwrap(response, f"row {index}") for response in responses]
        for side, response in zip(sides, kept, strict=True):
            encoded[f"input_ids_{side}"].append(response.input_ids)
            encoded[f"start_{side}"].append(response.response_start)
        for name in LABELS:
            if name in encoded:
                encoded[name].append(batch[name][index])
        encoded["length"].append(max(len(response.input_ids) for response in kept))
    return encoded


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
