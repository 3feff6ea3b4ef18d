"""Rewards of the responses in a file, written to a file; an interrupted run is resumed."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.stage import open_stage
from rmkit.data.chat_template import Encoded, encode_rows, unwrap
from rmkit.data.reading import encoding_error
from rmkit.data.resumable import PROGRESS, ResumableJsonlWriter
from rmkit.data.samples import parse_responses
from rmkit.data.schema import Messages
from rmkit.data.sources import Row, RowError, find_files, read_rows
from rmkit.data.token_batches import MAX_TOKENS, UNIT_SCHEMA, split_into_units
from rmkit.models.scoring import load_scorer, prefix_sharing_budget, score_units

SCORED = "scored"
BLOCK = 512  # rows scored and written together


def score_file(
    data: str,
    model_name_or_path: str,
    output_dir: str | Path,
    *,
    split: str = "train",
    max_length: int = 1024,
    max_tokens_per_batch: int = MAX_TOKENS,
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> Path:
    """Write `scored.jsonl`, the rows with their `rewards` [response], and `quarantine.jsonl`; the stage's folder.

    A row that cannot be read, or with a response that exceeds `max_length` tokens, is quarantined whole. The record
    counts rows in, rows out and rows quarantined by reason. An interrupted run is resumed.
    """
    settings = {
        "data": data, "model_name_or_path": model_name_or_path, "split": split, "max_length": max_length,
        "max_tokens_per_batch": max_tokens_per_batch, "dtype": dtype, "trust_remote_code": trust_remote_code,
    }
    find_files(data)  # refuses unreadable data before the output folder is changed
    with open_stage(output_dir, "score", settings, {"data": data, "model_name_or_path": model_name_or_path}) as stage:
        if not stage.done:
            try:
                model, tokenizer = load_scorer(model_name_or_path, dtype=dtype, trust_remote_code=trust_remote_code)
                scoring = {"max_length": max_length, "max_tokens_per_batch": max_tokens_per_batch}
                with ResumableJsonlWriter(stage.directory, SCORED) as writer:
                    summary = writer.summary
                    for block in read_blocks(data, split, skip=summary.rows_in):
                        writer.write(score_block(block, model, tokenizer, **scoring))
                    lines = [str(summary), *(f"  {line}" for line in summary.list_reasons())]
                    if not summary.rows_out[SCORED]:
                        raise_input_error(
                            f"data {data}", "at least one usable row", Verbatim("; ".join(map(str.strip, lines))),
                            "A row has prompt and responses.",
                        )
            except OSError as error:
                raise_input_error(
                    f"score: output_dir {output_dir}", "a disk that can be written", Verbatim(error), "Free it."
                )
            stage.record.update(
                rows_in=summary.rows_in,
                rows_out=summary.rows_out[SCORED],
                quarantined=summary.quarantined,
                report=lines,
            )
        print("\n".join(stage.record["report"]))
    (stage.directory / PROGRESS).unlink(missing_ok=True)
    return stage.directory


def read_blocks(data: str, split: str, *, skip: int) -> Iterator[list[Row]]:
    """The rows of `data` in blocks, without the first `skip`, which were scored before."""
    rows = iter(tqdm(read_rows(data, split), f"Scoring {data}", unit=" rows", disable=None))
    found = sum(1 for _ in islice(rows, skip))
    if found < skip:
        raise_input_error(
            f"data {data}", f"the {skip} rows that were read before", Verbatim(f"{found} rows"),
            "Name another output folder.",
        )
    while block := list(islice(rows, BLOCK)):
        yield block


def score_block(
    block: list[Row],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    max_tokens_per_batch: int,
) -> Iterator[tuple[Row, Mapping[str, Any] | RowError]]:
    """Each row of a block with its `rewards`, or its error."""
    encoded = encode_block(block, tokenizer, max_length)
    sharing = prefix_sharing_budget(model, max_length, max_tokens_per_batch)
    units = [unit for group in encoded if not isinstance(group, RowError) for unit in split_into_units(group, sharing)]
    columns = {name: [unit[name] for unit in units] for name in UNIT_SCHEMA}
    rewards: np.ndarray = score_units(
        model, tokenizer, Dataset.from_dict(columns, UNIT_SCHEMA),
        max_length=max_length, max_tokens_per_batch=max_tokens_per_batch,
    )
    for row, group in zip(block, encoded, strict=True):
        if isinstance(group, RowError):
            yield row, group
        else:
            yield row, {"rewards": rewards[:len(group)].tolist()}
            rewards = rewards[len(group):]


def encode_block(
    block: list[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[list[list[int]] | RowError]:
    """Token ids [response, token] of each row, or why it is rejected."""
    parsed: list[tuple[Messages, list[Messages]] | RowError] = []
    for row in block:
        try:
            parsed.append(parse_responses(row))
        except RowError as error:
            parsed.append(error)
    encoded = iter(encode_rows(
        tokenizer, [row for row in parsed if not isinstance(row, RowError)], max_length, starts=False
    ))
    return [row if isinstance(row, RowError) else list_tokens(next(encoded)) for row in parsed]


def list_tokens(group: list[Encoded | InputError]) -> list[list[int]] | RowError:
    """Token ids of a row's conversations, or why the first that has none is rejected."""
    try:
        return [unwrap(encoded).input_ids for encoded in group]
    except InputError as error:
        return encoding_error(error)
