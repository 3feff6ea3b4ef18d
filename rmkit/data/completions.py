"""Completions: prompts with what is to be written behind them, read from any usual file, and encoded with its place."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, Features, List, Value
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.chat_template import ResponseTooLong, encode_rows, unwrap
from rmkit.data.collators import AT_ONCE, LABELS, collate_labels, pad_right
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.schema import InvalidRow, Messages, read_messages, read_prompt, read_response
from rmkit.data.sources import RowError, read_rows

COMPLETION = "completion"


def read_completions(data: str, split: str, quarantine: RejectedRows) -> list[dict[str, Messages]]:
    """Rows of `prompt` and `completion`, both as messages, or of `messages`, whose last turn is the completion.

    Rows that cannot be used go into `quarantine`. Raises `InputError` where none can.
    """
    rows: list[dict[str, Messages]] = []
    for row in tqdm(read_rows(data, split), f"Reading {data}", unit=" rows", disable=None):
        if isinstance(row.content, RowError):
            quarantine.add(row, row.content)
            continue
        try:
            prompt, completion = split_row(row.content)
            rows.append({"prompt": prompt, COMPLETION: completion})
        except InvalidRow as unusable:
            quarantine.add(row, RowError(*unusable.args))
    if not rows:
        raise_input_error(
            f"data {data}",
            "a row with prompt and completion, or messages",
            Verbatim(f"none; set aside: {dict(quarantine.reasons)}"),
            f"See {quarantine.path}.",
        )
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
    """Token ids of every row's prompt followed by each of its `sides`, in `input_ids_SIDE`, and where it begins there.

    `start_SIDE`: the place of the side's first token. `length`: the longest of a row's sequences. `target` and
    `margin` are kept. Prompts are cut from the left; rows of which a side alone exceeds `max_length` are left out.
    """
    labels = {name: dataset.features[name] for name in LABELS if name in dataset.column_names}
    tokens = {f"input_ids_{side}": List(Value("int32")) for side in sides}
    places = {name: Value("int32") for name in (*(f"start_{side}" for side in sides), "length")}
    return dataset.map(
        encode_block,
        batched=True,
        fn_kwargs={"tokenizer": tokenizer, "max_length": max_length, "sides": sides, "labels": list(labels)},
        remove_columns=dataset.column_names,
        features=Features({**labels, **tokens, **places}),
        load_from_cache_file=False,  # the cache's key does not see a change in how rmkit encodes
        desc="Tokenising completions",
    )


def encode_block(
    rows: Mapping[str, list], tokenizer: PreTrainedTokenizerBase, max_length: int, sides: Sequence[str],
    labels: Sequence[str],
) -> dict[str, list]:
    """Token ids of a block of rows."""
    columns = [*labels, *(f"{name}_{side}" for side in sides for name in ("input_ids", "start")), "length"]
    encoded: dict[str, list] = {name: [] for name in columns}
    written = list(zip(rows["prompt"], zip(*(rows[side] for side in sides), strict=True), strict=True))
    for start in range(0, len(written), AT_ONCE):
        for number, found in enumerate(encode_rows(tokenizer, written[start:start + AT_ONCE], max_length), start):
            if any(isinstance(one, ResponseTooLong) for one in found):
                continue
            for side, one in zip(sides, found, strict=True):
                kept = unwrap(one, f"row {number}")
                encoded[f"input_ids_{side}"].append(kept.input_ids)
                encoded[f"start_{side}"].append(kept.response_start)
            for name in labels:
                encoded[name].append(rows[name][number])
            encoded["length"].append(max(len(unwrap(one).input_ids) for one in found))
    return encoded


class CompletionCollator:
    """Rows of `encode_sides` as one padded batch: all rows' first sides, then their second ones.

    `input_ids`, `attention_mask`, `completion_mask`: [side * row, token], the last 1 where a token is a side's own;
    `target`, `margin`: [row], where the rows have them. Other columns named in `numbers` follow as [row] float32.
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
        places = torch.arange(batch["input_ids"].shape[1])
        batch["completion_mask"] = ((places >= starts[:, None]) * batch["attention_mask"]).long()
        for name in self.numbers:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=torch.float32)
        return {**batch, **collate_labels(rows)}
