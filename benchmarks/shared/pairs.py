"""Rows of the gzipped JSON Lines files that the studies read, their texts as chat messages, and synthetic pairs."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmkit.commands.read import ReadConfig, read

ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, in order."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def make_message(role: str, content: str) -> list[dict[str, str]]:
    """A list of one chat message."""
    return [{"role": role, "content": content}]


def make_messages(row: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """`prompt`, `chosen` and `rejected` of a row, each as a list of one chat message."""
    return {name: make_message(role, row[name]) for name, role in ROLES.items()}


def read_synthetic(data: Path, output_dir: Path) -> None:
    """`rmkit read` of the splits that `rmkit synthetic` wrote to `data`."""
    train, validation, test = (str(data / f"{split}.jsonl") for split in ("train", "validation", "test"))
    read(ReadConfig(data=train, validation=validation, test=test, output_dir=str(output_dir)))
