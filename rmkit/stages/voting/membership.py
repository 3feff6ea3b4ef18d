"""A member's folder: what it is made from, known by its content on whatever machine, and how far it has come."""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

from rmkit.core.checks import Seen, refuse
from rmkit.core.configuration import as_dict
from rmkit.core.stages import digest, read_json, read_record
from rmkit.data.collate import LABELS
from rmkit.data.tables import SIDES, stream_rows
from rmkit.stages.voting.electing import VoteConfig

BEGUN = "member.json"  # there from the start, unlike stage.json; says why an attempt failed
# What does not decide a member's rewards: places, which differ between machines, and who else votes.
APART = ("data", "model_name_or_path", "output_dir", "members", "member", "merge", "partial")


def find_folder(config: VoteConfig, member: int) -> Path:
    """The member's folder: beside the vote's, which is emptied when its configuration changes."""
    return Path(f"{Path(config.output_dir)}-members") / str(member)


def member_settings(config: VoteConfig, member: int) -> dict[str, Any]:
    """The settings that decide a member's rewards, as they read in its record."""
    settings = {key: value for key, value in as_dict(config).items() if key not in APART}
    return json.loads(json.dumps({**settings, "member": member}, default=str))


def read_member(config: VoteConfig, member: int, inputs: Mapping[str, str]) -> dict[str, Any] | None:
    """What the member's folder says of itself, finished or not; None where it says nothing.

    Raises `InputError` for one that was made with other settings than `config`, or from others than `inputs`: these
    are digests, and an input that is not among them may be any.
    """
    folder = find_folder(config, member)
    made = read_record(folder) or read_json(folder / BEGUN)
    if made is not None:
        seen = {**made.get("config", {}), **made.get("inputs", {})}
        wanted = {**member_settings(config, member), **inputs}
        differences = [tell(key, seen.get(key), wanted[key]) for key in wanted if seen.get(key) != wanted[key]]
        if differences:
            refuse(f"member {member} in {folder}", "one of this vote", Seen("; ".join(differences)),
                   f"Name another output_dir, or delete what is of no use in {folder.parent}; nothing was changed.")
    return made


def tell(key: str, seen: Any, wanted: Any) -> str:
    """How one setting or input differs; of a section, its keys that do."""
    if key in ("data", "model"):
        return f"other contents of {key}"
    if isinstance(seen, Mapping) and isinstance(wanted, Mapping):
        names = [name for name in sorted({*seen, *wanted}) if seen.get(name) != wanted.get(name)]
        return "; ".join(tell(f"{key}.{name}", seen.get(name), wanted.get(name)) for name in names)
    return f"{key} {seen!r} instead of {wanted!r}"


def digest_inputs(config: VoteConfig, pairs: Mapping[str, Dataset]) -> dict[str, str]:
    """Digests of the pairs and, but for merging, which may go on without it, of the base model."""
    digests = {"data": digest_pairs(pairs)}
    return digests if config.merge else {**digests, "model": digest_model(config.model_name_or_path)}


def digest_pairs(pairs: Mapping[str, Dataset]) -> str:
    """What identifies the pairs by split, in whatever order and file: their ids, texts and labels.

    Raises `InputError` for an id that is missing or given twice in a split, since votes are joined by it.
    """
    parts = []
    for split, rows in sorted(pairs.items()):
        columns = [name for name in ("id", *SIDES, *LABELS) if name in rows.column_names]
        total = distinct = 0
        with contextlib.closing(sqlite3.connect("")) as ids:  # a temporary file: in memory it would grow with the data
            ids.execute("CREATE TABLE ids (id PRIMARY KEY) WITHOUT ROWID")
            for row in stream_rows(rows, columns):
                distinct += ids.execute("INSERT OR IGNORE INTO ids VALUES (?)", (row["id"],)).rowcount
                total += int(digest(json.dumps(row, sort_keys=True, default=str)), 16)
        if distinct < len(rows):
            refuse(f"{split}: id", "one of its own for each pair", Seen(f"{distinct} ids of {len(rows)} pairs"),
                   "`rmkit read` gives them.")
        parts.append(f"{split} {len(rows)} {total % 2**256}")
    return digest("\n".join(parts))


def digest_model(path: str) -> str:
    """What identifies a base model: the content of its folder's files, or a hub name as it stands."""
    files = sorted(file for file in Path(path).glob("*") if file.is_file())
    parts = []
    for file in files:
        with file.open("rb") as content:
            parts.append(f"{file.name}={hashlib.file_digest(content, 'sha256').hexdigest()}")
    return digest("\n".join(parts)) if parts else path
