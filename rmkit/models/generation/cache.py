"""A cache of completions on disk, so that nothing is generated or paid for twice."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rmkit.core.checks import Seen, refuse
from rmkit.models.generation.outcomes import Completion

COMPLETION = TypeAdapter(Completion)


class Cache:
    """Completions by the key of their request, one JSON line each.

    A line is written by one call, with a line break before it: what a killed process leaves of one spoils no other.
    Several processes may append to one file. Lines that cannot be read are passed over, so that their requests are
    asked again; the last line of a key counts.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.descriptor = descriptor
        self.found: dict[str, Completion] = {}
        with path.open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, TypeError, KeyError, ValidationError):
                    record = json.loads(line)
                    self.found[record["key"]] = COMPLETION.validate_python(record["completion"])

    def add(self, key: str, completion: Completion) -> None:
        """Keep a completion; it is in the file when this returns."""
        self.found[key] = completion
        line = memoryview(json.dumps({"key": key, "completion": asdict(completion)}).join("\n\n").encode())
        while line:
            line = line[os.write(self.descriptor, line):]


@contextlib.contextmanager
def open_cache(path: str | Path) -> Iterator[Cache]:
    """The cache in the file at `path`, made where there is none. Raises `InputError` where it cannot be written."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        refuse(f"cache {path}", "a file that can be written", Seen(error), "Name another.")
    try:
        yield Cache(path, descriptor)
    finally:
        os.close(descriptor)
