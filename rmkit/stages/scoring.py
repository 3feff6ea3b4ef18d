"""`rmkit score`: rewards of any number of responses to each prompt, from disk to disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rmkit.core.checks import InputError, Seen, refuse
from rmkit.core.configuration import as_dict
from rmkit.core.stages import Stage, open_stage
from rmkit.data.chat import Encoded, OverLong, encode_rows
from rmkit.data.collate import AT_ONCE
from rmkit.data.groups import TOKENS, UNITS, cut_units
from rmkit.data.ledger import PROGRESS, Ledger
from rmkit.data.pairs import Messages, Unusable
from rmkit.data.samples import read_columns
from rmkit.data.sources import Fault, Row, find_files, read_rows
from rmkit.models.scoring import choose_sharing, load_scorer, score_units

SCORED = "scored"
BLOCK = 512  # rows that are scored together, and lost when the run is killed

Parsed = tuple[Messages, list[Messages]]


@dataclass
class ScoreConfig:
    """Score the responses in `data` (JSON lines, Parquet, a `datasets` folder, a folder of files, a hub name).

    A row has `prompt`, and `responses` (a list; `completions` will do) or `response`, as text or chat messages; `split`
    is asked of a dataset or of the hub. The reward model `model_name_or_path` reads `tokens_at_once` tokens, or one
    response, in `dtype`; prompts are cut from the left to fit `max_length`. A run that was killed goes on where it was.
    """

    data: str
    model_name_or_path: str
    output_dir: str
    split: str = "train"
    max_length: int = 1024
    tokens_at_once: int = TOKENS
    dtype: Literal["float32", "bfloat16"] = "float32"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for name in ("max_length", "tokens_at_once"):
            if getattr(self, name) < 1:
                refuse(name, "at least 1 token", getattr(self, name), "The defaults are usual.")


def score(config: ScoreConfig) -> Path:
    """Write `scored.jsonl`, the rows with their `rewards` [response], and `quarantine.jsonl`; the stage's folder.

    A row that cannot be read, or of which one response does not fit into `max_length` tokens, is set aside whole. The
    record says rows in, rows out and rows quarantined by reason.
    """
    find_files(config.data)  # an unreadable one is refused before the output folder is touched
    inputs = {"data": config.data, "model_name_or_path": config.model_name_or_path}
    with open_stage(config.output_dir, "score", as_dict(config), inputs) as stage:
        if not stage.done:
            try:
                fill(stage, config)
            except OSError as error:
                refuse(f"score: output_dir {config.output_dir}", "a disk that can be written", Seen(error), "Free it.")
        print("\n".join(stage.record["report"]))
    (stage.directory / PROGRESS).unlink(missing_ok=True)
    return stage.directory


def fill(stage: Stage, config: ScoreConfig) -> None:
    """Score what is not scored yet."""
    model, tokenizer = load_scorer(
        config.model_name_or_path, dtype=config.dtype, trust_remote_code=config.trust_remote_code
    )
    with Ledger(stage.directory, SCORED) as ledger:
        reading = ledger.reading
        rows = iter(tqdm(read_rows(config.data, config.split), f"Scoring {config.data}", unit=" rows", disable=None))
        done = sum(1 for _ in islice(rows, reading.rows_in))
        if done < reading.rows_in:
            refuse(f"data {config.data}", f"the {reading.rows_in} rows that were read before", Seen(f"{done} rows"),
                   "Name another output folder.")
        while block := list(islice(rows, BLOCK)):
            ledger.write(score_block(block, model, tokenizer, config))
        if not reading.rows_out[SCORED]:
            refuse(f"data {config.data}", "at least one usable row",
                   Seen("; ".join([str(reading), *reading.list_reasons()])), "A row has prompt and responses.")
    stage.record.update(
        rows_in=reading.rows_in,
        rows_out=reading.rows_out[SCORED],
        quarantined=reading.quarantined,
        report=[str(reading), *(f"  {line}" for line in reading.list_reasons())],
    )


def score_block(
    block: list[Row], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: ScoreConfig
) -> Iterator[tuple[Row, Mapping[str, Any] | Fault]]:
    """Each row of a block with its `rewards`, or its fault."""
    encoded = list(encode_block([parse(row) for row in block], tokenizer, config.max_length))
    groups = [group for group in encoded if not isinstance(group, Fault)]
    units = cut_units(groups, choose_sharing(model, config.max_length, config.tokens_at_once))
    rewards: np.ndarray = score_units(
        model, tokenizer, Dataset.from_dict(units, UNITS),
        max_length=config.max_length, tokens_at_once=config.tokens_at_once,
    )
    for row, group in zip(block, encoded, strict=True):
        if isinstance(group, Fault):
            yield row, group
        else:
            yield row, {"rewards": rewards[:len(group)].tolist()}
            rewards = rewards[len(group):]


def parse(row: Row) -> Parsed | Fault:
    """The prompt of a row and its responses, or its fault."""
    if isinstance(row.content, Fault):
        return row.content
    content = row.content
    if content.get("response") is not None:
        content = {**content, "responses": [content["response"]]}
    try:
        prompt, responses = read_columns(content)
    except Unusable as unusable:
        return Fault(*unusable.args)
    if not responses:
        return Fault("empty responses")
    for part, messages in (("prompt", prompt), *(("response", response) for response in responses)):
        if not any(message["content"].strip() for message in messages):
            return Fault(f"empty {part}")
    return prompt, responses


def encode_block(
    parsed: list[Parsed | Fault], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[list[list[int]] | Fault]:
    """Token ids [response, token] of each row, or its fault."""
    for start in range(0, len(parsed), AT_ONCE):
        part = parsed[start:start + AT_ONCE]
        sound = [row for row in part if not isinstance(row, Fault)]
        found = iter(encode_rows(tokenizer, sound, max_length, starts=False))
        for row in part:
            yield row if isinstance(row, Fault) else list_tokens(next(found))


def list_tokens(group: list[Encoded | InputError]) -> list[list[int]] | Fault:
    """Token ids of a row's conversations, or the fault of the first that has one."""
    for encoded in group:
        if isinstance(encoded, InputError):
            return Fault("over-long response" if isinstance(encoded, OverLong) else "not encoded", str(encoded))
    return [encoded.input_ids for encoded in group if isinstance(encoded, Encoded)]
