"""Samples: rows of a prompt with several unlabelled responses (MetaRM's meta set), and prompts, read and encoded."""

import contextlib
import heapq
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, List, Value
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.stage import sha256_text
from rmkit.data.chat_template import Encoded, ResponseTooLong, encode_rows
from rmkit.data.collators import pack, pad_right, shared_prefix_length
from rmkit.data.encoding import encode_dataset
from rmkit.data.parquet import read_column
from rmkit.data.reading import PairWriter, encoding_error
from rmkit.data.rejected_rows import RejectedRows, parse_rows
from rmkit.data.schema import Messages, check_not_empty, check_unicode, read_prompt, read_response, read_side, strip
from rmkit.data.sources import Row, RowError

logger = logging.getLogger(__name__)
NAMES = ("responses", "completions")  # of the column, ours and TRL's
SPLIT = "samples"
SAMPLES = "samples.jsonl"
SIZES = ("length", "tokens", "responses", "equal")
ENCODED = {"input_ids": List(List(Value("int32"))), **{name: Value("int32") for name in SIZES}}


@dataclass
class SampleSummary:
    """Rows read, written and rejected by reason; responses written, and left out by reason.

    Responses of rejected rows that were left out are counted too.
    """

    rows_in: int = 0
    rows_out: int = 0
    responses: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        left_out = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items()) or "none"
        return (f"meta set: rows in {self.rows_in} = rows out {self.rows_out} + quarantined "
                f"{sum(self.quarantined.values())}; {self.responses} responses, left out {left_out}")


def read_samples(
    data: str, directory: Path, *, tokenizer: PreTrainedTokenizerBase, max_length: int, split: str = "train"
) -> SampleSummary:
    """Stream the rows of `data` into `directory`/samples.parquet, the rejected ones into `directory`/quarantine.jsonl.

    A row has a `prompt` (as pairs have it) and `responses` (or `completions`): a list of texts or of messages. Equal
    responses of a row are one (up to space around them), empty ones and those of more than `max_length` tokens are left
    out; a row with fewer than two that are left is rejected. Raises `InputError` when no row is left.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        quarantine = stack.enter_context(RejectedRows(directory / "quarantine.jsonl"))
        writer = stack.enter_context(PairWriter(directory / f"{SPLIT}.parquet", ("id", "prompt", "responses")))
        summary = SampleSummary(quarantined=quarantine.reasons)
        parse = partial(parse_samples, tokenizer=tokenizer, max_length=max_length, left_out=summary.left_out)
        for row, samples in parse_rows(data, split, parse, quarantine):
            writer.write({"id": f"{Path(row.file).name}:{row.line}", **samples})
            summary.rows_out += 1
            summary.responses += len(samples["responses"])
        summary.rows_in = summary.rows_out + sum(quarantine.reasons.values())
        if not summary.rows_out:
            expected = "a row with a prompt and two different responses"
            seen = Verbatim(f"{summary}; {dict(quarantine.reasons)}")
            raise_input_error(f"meta_data {data}", expected, seen, f"See {quarantine.path}.")
    return summary


def parse_samples(
    row: Row, *, tokenizer: PreTrainedTokenizerBase, max_length: int, left_out: Counter[str]
) -> dict[str, Any]:
    """The prompt of a row and its different responses; counts in `left_out` what is left out, by reason."""
    prompt, responses = read_columns(row.columns)
    kept: dict[tuple[tuple[str, str], ...], Messages] = {}
    encoded = encode_rows(tokenizer, [(prompt, responses)], max_length)[0]
    for response, tokens in zip(responses, encoded, strict=True):
        key = tuple(strip(message) for message in response)
        if not any(content for _, content in key):
            left_out["empty"] += 1
        elif key in kept:
            left_out["equal to another"] += 1
        elif isinstance(tokens, ResponseTooLong):
            left_out["over-long"] += 1
        elif isinstance(tokens, InputError):
            raise encoding_error(tokens)
        else:
            kept[key] = response
    if len(kept) < 2:
        raise RowError("fewer than two different responses", f"{len(kept)} of {len(responses)}")
    return {"prompt": prompt, "responses": list(kept.values())}


def read_columns(content: Mapping[str, Any]) -> tuple[Messages, list[Messages]]:
    """The prompt and all responses of a row."""
    prompt = read_prompt(content.get("prompt"))
    values = next((content[name] for name in NAMES if content.get(name) is not None), None)
    if not isinstance(values, list):
        raise RowError("missing responses", f"expected a list in {' or '.join(NAMES)}, got {type(values).__name__}")
    responses = [read_response(read_side(value, "responses"), prompt, "responses") for value in values]
    check_unicode(prompt, *responses)
    return prompt, responses


def encode_samples(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """Token ids of every prompt with each of its different responses: `input_ids` [response, token], and four sizes.

    `length`: tokens of the longest. `tokens`: of all together, their shared prefix counted once, as in a packed row.
    `responses`: how many are left. `equal`: how many had the same tokens as another and were left out; their sum is
    logged as a warning. Raises `InputError` for a row with fewer than two different responses, or one that cannot be
    encoded.
    """
    encoded = encode_dataset(dataset, tokenizer, max_length, list_sample, ENCODED)
    if equal := int(read_column(encoded, "equal", "int64").sum()):
        logger.warning("%d responses have the same tokens as another to their prompt, and are left out", equal)
    return encoded


def list_sample(name: str, group: Sequence[Encoded]) -> Iterator[dict[str, Any]]:
    """The row of `encode_samples` for a prompt."""
    sequences = list(dict.fromkeys(tuple(response.input_ids) for response in group))
    if len(sequences) < 2:
        hint = "`read_samples` leaves such rows out."
        raise_input_error(name, "at least two different responses", len(sequences), hint)
    lengths = [len(sequence) for sequence in sequences]
    tokens = sum(lengths) - shared_prefix_length(sequences) * (len(sequences) - 1)
    yield {"input_ids": sequences, "length": max(lengths), "tokens": tokens, "responses": len(sequences),
           "equal": len(group) - len(sequences)}


def collate_samples(
    rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase, *, packed: bool
) -> dict[str, Any]:
    """Rows of `encode_samples` as one packed row or one padded batch, the responses of each prompt one after another.

    `present`: [prompt, response] bool, True where a prompt has so many responses; the rest as for pairs.
    """
    groups = [row["input_ids"] for row in rows]
    counts = torch.tensor([len(group) for group in groups])
    tokens = pack(groups) if packed else pad_right([sequence for group in groups for sequence in group], tokenizer)
    return {**tokens, "present": torch.arange(int(counts.max())) < counts[:, None]}


RESPONSES = ("chosen", "rejected", "responses", "completions")  # columns that are not the prompt's


def read_prompts(
    data: str, split: str, quarantine: RejectedRows, *, count: int | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of `data` with their `prompt` as messages and all columns that are not responses; equal prompts are one.

    `count`: how many to sample under `seed`; all where not given. They keep the order of the data, on which the choice
    does not depend. Rows without a prompt to answer go into `quarantine`. Raises `InputError` where none has one.
    """
    rows: dict[str, tuple[str, int, dict[str, Any]]] = {}
    for row, prompt in parse_rows(data, split, parse_prompt, quarantine):
        others = {name: value for name, value in row.columns.items() if name not in RESPONSES}
        key = sha256_text(json.dumps([seed, prompt]))
        rows.setdefault(key, (key, len(rows), {**others, "prompt": prompt}))
    if not rows:
        seen = Verbatim(f"none; rejected: {dict(quarantine.reasons)}")
        raise_input_error(f"data {data}", "a row with a prompt to answer", seen, f"See {quarantine.path}.")
    sampled = heapq.nsmallest(len(rows) if count is None else count, rows.values())
    return [row for _, _, row in sorted(sampled, key=lambda entry: entry[1])]


def parse_prompt(row: Row) -> Messages:
    """The prompt of a row, with something to answer at its end."""
    prompt = read_prompt(row.columns.get("prompt"))
    if not prompt[-1]["content"].strip() or prompt[-1]["role"] == "assistant":
        raise RowError("nothing to answer")
    return prompt


def parse_responses(row: Row) -> tuple[Messages, list[Messages]]:
    """The prompt of a row and its responses; raises `RowError` where they cannot be used."""
    content = row.columns
    if content.get("response") is not None:
        content = {**content, "responses": [content["response"]]}
    prompt, responses = read_columns(content)
    if not responses:
        raise RowError("empty responses")
    check_not_empty(prompt, "prompt")
    for response in responses:
        check_not_empty(response, "response")
    return prompt, responses


def is_first_occurrence(responses: Sequence[str]) -> NDArray[np.bool_]:
    """True over [response] where a prompt's response repeats no earlier one, up to space around them."""
    first: dict[str, int] = {}
    return np.array(
        [first.setdefault(text.strip(), index) == index for index, text in enumerate(responses)], dtype=np.bool_
    )
