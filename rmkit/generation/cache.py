"""Completions on disk, so that a resumed run does not generate them again."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.generation.results import Completion

COMPLETION = TypeAdapter(Completion)


class CompletionCache:
    """Completions by the key of their request, one JSON line each.

    Each line is written by one call, after a line break: a line cut off by a kill damages no other. Several processes
    may append to one file. Unreadable lines are skipped; the last line of a key counts.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.descriptor = descriptor
        self.completions: dict[str, Completion] = {}
        with path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, TypeError, KeyError, ValidationError):
                    record = json.loads(line)
                    self.completions[record["key"]] = COMPLETION.validate_python(record["completion"])

    def add(self, key: str, completion: Completion) -> None:
        """Append a completion; it is in the file when this returns."""
        self.completions[key] = completion
        line = memoryview(json.dumps({"key": key, "completion": asdict(completion)}).join("\n\n").encode())
        while line:
            line = line[os.write(self.descriptor, line):]


@contextlib.contextmanager
def open_cache(path: str | Path) -> Iterator[CompletionCache]:
    """The cache in the file at `path`, created if absent. Raises `InputError` where it cannot be written."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise_input_error(f"cache {path}", "a file that can be written", Verbatim(error), "Name another.")
    try:
        yield CompletionCache(path, descriptor)
    finally:
        os.close(descriptor)
