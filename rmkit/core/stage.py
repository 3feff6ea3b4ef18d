"""Stage files: each stage's folder carries `stage.json`, which says what made it and lets it be reused.

A stage is finished when its `stage.json` is there; it is written last, in one move, so a stage that was killed
half-way is never taken for a whole one.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from rmkit.core.checks import Verbatim, raise_input_error

STAGE_FILE = "stage.json"
UNFINISHED_FILE = "stage.unfinished.json"
PARTIAL_SUFFIX = ".part"  # behind the name of a file that is not whole yet
PACKAGES = ("rmkit", "torch", "transformers", "deepspeed", "datasets", "scikit-learn", "numpy")
LARGE_FILE = 64 * 2**20  # bytes; above it a file is known by name, size and time instead of by content


@dataclass
class Stage:
    """One stage's folder while it is being filled.

    `done` says that an earlier run with the same configuration and inputs finished it; `record` then holds what
    that run wrote. Otherwise the stage puts its facts into `record` before the block ends.
    """

    directory: Path
    key: str
    done: bool
    record: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def open_stage(
    directory: str | Path, name: str, config: Mapping[str, Any], inputs: Mapping[str, str | Path]
) -> Iterator[Stage]:
    """Enter the folder of stage `name`, reuse it when nothing changed, and seal it when the block ends well.

    A folder left by a killed run with the same configuration and inputs is entered as it stands, so that the
    stage can go on from its own checkpoints; one that stage `name` made otherwise is emptied first. Raises
    `InputError` for a folder that holds another stage, something that is not rmkit's, or one of the inputs.
    """
    directory = Path(directory)
    check_inputs_outside(directory, name, inputs)
    hashes = {role: input_hash(source) for role, source in inputs.items()}
    settings = {key: value for key, value in config.items() if key != "output_dir"}
    key = sha256_text(json.dumps([name, settings, hashes], sort_keys=True, default=str))
    record = read_record(directory)
    if record is not None and record["key"] == key:
        yield Stage(directory, key, True, record)
        return
    begun = read_json(directory / UNFINISHED_FILE)
    try:
        check_stage_dir(directory, name, record or begun)
        directory.mkdir(parents=True, exist_ok=True)
        if record is not None or (begun is not None and begun["key"] != key):
            clear_stage_dir(directory, name)
        write_json(directory / UNFINISHED_FILE, {"stage": name, "key": key})
    except OSError as error:
        raise_input_error(
            f"{name}: output_dir {directory}", "a writable folder", Verbatim(error), "Free it or name another."
        )
    stage = Stage(directory, key, False)
    started = time.time()
    yield stage
    stage.record.update(
        stage=name, key=key, config=settings, inputs=hashes, versions=versions(),
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"), seconds=round(time.time() - started, 1),
    )
    write_json(directory / STAGE_FILE, stage.record)
    (directory / UNFINISHED_FILE).unlink()


def check_inputs_outside(directory: Path, name: str, inputs: Mapping[str, str | Path]) -> None:
    """Refuse to write where an input lies: emptying the folder would delete it."""
    for role, source in inputs.items():
        if Path(source).exists() and Path(source).resolve().is_relative_to(directory.resolve()):
            raise_folder_error(directory, name, f"a folder apart from {role} {source}", "one that holds it")


def check_stage_dir(directory: Path, name: str, made: Mapping[str, Any] | None) -> None:
    """Refuse a folder with contents that stage `name` did not write; `made` is the record of what did, if any."""
    if made is not None and made.get("stage") != name:
        owner = f"that of the stage {made.get('stage')}"
        raise_folder_error(directory, name, "an empty folder or one of this stage's", owner)
    contents = {file.name for file in directory.iterdir()} if directory.exists() else set()
    if made is None and contents - {UNFINISHED_FILE + PARTIAL_SUFFIX}:  # what a run killed at its very start leaves
        raise_folder_error(directory, name, "an empty folder or one of rmkit's own", "a folder with other contents")


def raise_folder_error(directory: Path, name: str, expected: str, got: str) -> NoReturn:
    """Raise `InputError` about the output folder of stage `name`, which was left as it is."""
    hint = "Name another folder; nothing was changed."
    raise_input_error(f"{name}: output_dir {directory}", expected, Verbatim(got), hint)


def clear_stage_dir(directory: Path, name: str) -> None:
    """Delete what an earlier run of stage `name` left; killed half-way, the folder is still known as one of ours."""
    write_json(directory / UNFINISHED_FILE, {"stage": name, "key": "emptied"})
    (directory / STAGE_FILE).unlink(missing_ok=True)
    for file in directory.iterdir():
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        elif file.name != UNFINISHED_FILE:
            file.unlink()


def read_record(directory: str | Path) -> dict[str, Any] | None:
    """The finished stage's `stage.json`, or None where the folder holds no finished stage."""
    return read_json(Path(directory) / STAGE_FILE)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is no such file or it is not one of ours."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "key" in content else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader sees either the old content or the whole new one."""
    draft = path.with_name(path.name + PARTIAL_SUFFIX)
    with draft.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False, default=str)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def input_hash(source: str | Path) -> str:
    """What identifies an input: a stage's key, a file's content, a folder's files, or a hub name as it stands."""
    path = Path(source)
    record = read_record(path)
    if record is not None:
        return str(record["key"])
    if path.is_file():
        return file_hash(path)
    if path.is_dir():
        parts = [f"{file.relative_to(path)}={file_hash(file)}" for file in sorted(path.rglob("*")) if file.is_file()]
        return sha256_text("\n".join(parts))
    return str(source)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content; of its name, size and time where reading it whole would cost too much."""
    status = path.stat()
    if status.st_size > LARGE_FILE:
        return sha256_text(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
