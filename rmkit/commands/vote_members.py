"""One fine-tuned member's vote, a job of its own: train, score, and leave the rewards by pair `id`."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as compute
import pyarrow.parquet as parquet
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.commands.train import train
from rmkit.commands.vote_config import EnsembleRewards, VoteConfig, member_config
from rmkit.core.arrays import text_key
from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage, read_json, read_record, sha256_text, write_json
from rmkit.data.collators import LABELS
from rmkit.data.memmap import memmap_zeros
from rmkit.data.parquet import BLOCK, PAIR_SIDES, prompt_ids, stream_blocks, stream_rows, write_table
from rmkit.ensembles.folds import assign_folds
from rmkit.models.scoring import score_pairs_from_path
from rmkit.training.checkpoint import report_disk_errors

SCORES = "scores"
FOLD_PAIRS = "lessons"
REASON = 300  # characters of a failure's reason that are kept


def run_member(config: VoteConfig, member: int, pairs: Mapping[str, Dataset], inputs: Mapping[str, str]) -> Path:
    """Train one member's models and write its rewards of every pair to `scores`; its folder.

    Cross-fitted, it has one model per fold, which scores that fold's train pairs; the first one scores the
    validation and the test pairs too. A finished member is left alone, a killed or failed one goes on where it was;
    `member.json` says why one failed. `inputs`: digests of the pairs and of the base model. Raises `InputError`,
    naming the member, for a folder of another vote, and for what stops training.
    """
    read_member(config, member, inputs)  # refused, where open_stage would empty the folder
    folder, settings = find_folder(config, member), member_settings(config, member)
    with open_stage(folder, "member", settings, inputs) as stage:
        if not stage.done:
            begun = {"key": stage.key, "config": settings, "inputs": dict(inputs)}
            with record_failure(folder, begun):
                write_json(folder / MEMBER_FILE, begun)
                rewards = score_pairs_by_member(config, member, pairs, folder)
                for split, rows in pairs.items():
                    write_scores(rows, rewards[split], folder / SCORES / f"{split}.parquet")
            rows = sum(map(len, pairs.values()))
            stage.record.update(rows_in=rows, rows_out=rows, summary=f"member {member} votes on {rows} pairs")
        print(f"{stage.record['summary']}: {folder}")
    shutil.rmtree(folder / FOLD_PAIRS, ignore_errors=True)  # sealed, it needs them no more
    return folder


@contextlib.contextmanager
def record_failure(folder: Path, begun: dict[str, Any]) -> Iterator[None]:
    """Leave the reason of a failure in the member's folder, and the member's name in the message."""
    try:
        with report_disk_errors(folder):
            yield
    except Exception as error:
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            write_json(folder / MEMBER_FILE, {**begun, "failed": " ".join(reason.split())[:REASON]})
        if isinstance(error, InputError):
            raise InputError(f"member {begun['config']['member']}: {error}") from None
        raise


def score_pairs_by_member(
    config: VoteConfig, member: int, pairs: Mapping[str, Dataset], folder: Path
) -> dict[str, NDArray[np.float64]]:
    """Rewards [side, pair] of each split by the member's models, which are trained where they are not finished."""
    rewards = {split: np.empty((2, len(rows))) for split, rows in pairs.items()}
    lessons = pairs["train"]
    for fold, scored in enumerate(fold_indices(config, lessons)):
        data, place = config.data, folder / "model"
        if config.folds:
            others = np.delete(np.arange(len(lessons)), scored)
            data = str(write_fold_pairs(lessons, others, folder / FOLD_PAIRS / f"fold-{fold}"))
            place = folder / f"without-fold-{fold}"
        train(member_config(config, data, place, member))
        rewards["train"][:, scored] = score(config, place, lessons.select(scored))
        for split in pairs.keys() - {"train"} if fold == 0 else ():
            rewards[split][:] = score(config, place, pairs[split])
    return rewards


def fold_indices(config: VoteConfig, lessons: Dataset) -> list[NDArray[np.intp]]:
    """The positions of the train pairs that each of a member's models scores: in-sample one model all of them, or
    cross-fitted each a fold, being trained on the others."""
    if not config.folds:
        return [np.arange(len(lessons))]
    fold_of_pair = assign_folds(prompt_ids(lessons), config.folds, seed=derive_seed(config.seed, "folds"))
    return [np.flatnonzero(fold_of_pair == fold) for fold in range(config.folds)]


def write_fold_pairs(lessons: Dataset, rows: NDArray[np.intp], folder: Path) -> Path:
    """The folder with the pairs that one of a member's models is trained on; left alone once it is there."""
    path = folder / "train.parquet"
    if not path.exists():  # a new time of writing would make a finished model look outdated
        folder.mkdir(parents=True, exist_ok=True)
        write_table(lessons.select(rows), path)
    return folder


def score(config: VoteConfig, place: Path, rows: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rewards of both sides of `rows` by the model in `place`."""
    return score_pairs_from_path(
        place, rows, max_length=config.max_length, max_tokens_per_batch=config.max_tokens_per_batch,
        trust_remote_code=config.trust_remote_code,
    )


def write_scores(rows: Dataset, rewards: NDArray[np.float64], path: Path) -> None:
    """One split's rewards beside the ids of the pairs."""
    path.parent.mkdir(exist_ok=True)
    write_table(rows.select_columns(["id"]), path, dict(zip(EnsembleRewards._fields, rewards, strict=True)))


MEMBER_FILE = "member.json"  # there from the start, unlike stage.json; says why an attempt failed
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
    made = read_record(folder) or read_json(folder / MEMBER_FILE)
    if made is not None:
        seen = {**made.get("config", {}), **made.get("inputs", {})}
        wanted = {**member_settings(config, member), **inputs}
        differences = [
            describe_difference(key, seen.get(key), wanted[key]) for key in wanted if seen.get(key) != wanted[key]
        ]
        if differences:
            raise_input_error(
                f"member {member} in {folder}",
                "one of this vote",
                Verbatim("; ".join(differences)),
                f"Name another output_dir, or delete what is of no use in {folder.parent}; nothing was changed.",
            )
    return made


def describe_difference(key: str, seen: Any, wanted: Any) -> str:
    """How one setting or input differs; of a section, its keys that do."""
    if key in ("data", "model"):
        return f"other contents of {key}"
    if isinstance(seen, Mapping) and isinstance(wanted, Mapping):
        names = [name for name in sorted({*seen, *wanted}) if seen.get(name) != wanted.get(name)]
        return "; ".join(describe_difference(f"{key}.{name}", seen.get(name), wanted.get(name)) for name in names)
    return f"{key} {seen!r} instead of {wanted!r}"


def hash_inputs(config: VoteConfig, pairs: Mapping[str, Dataset]) -> dict[str, str]:
    """Digests of the pairs and, but for merging, which may go on without it, of the base model."""
    digests = {"data": hash_pairs(pairs)}
    return digests if config.merge else {**digests, "model": hash_model(config.model_name_or_path)}


def hash_pairs(pairs: Mapping[str, Dataset]) -> str:
    """What identifies the pairs by split, in whatever order and file: their ids, texts and labels.

    Raises `InputError` for an id that is missing or given twice in a split, since votes are joined by it.
    """
    parts = []
    for split, rows in sorted(pairs.items()):
        columns = [name for name in ("id", *PAIR_SIDES, *LABELS) if name in rows.column_names]
        total = 0
        ids: set[bytes] = set()
        for row in stream_rows(rows, columns):
            if row["id"] is not None:
                ids.add(text_key(str(row["id"])))
            total += int(sha256_text(json.dumps(row, sort_keys=True, default=str)), 16)
        if len(ids) < len(rows):
            raise_input_error(
                f"{split}: id",
                "one of its own for each pair",
                Verbatim(f"{len(ids)} ids of {len(rows)} pairs"),
                "`rmkit read` gives them.",
            )
        parts.append(f"{split} {len(rows)} {total % 2**256}")
    return sha256_text("\n".join(parts))


def hash_model(path: str) -> str:
    """What identifies a base model: the content of its folder's files, or a hub name as it stands."""
    files = sorted(file for file in Path(path).glob("*") if file.is_file())
    parts = []
    for file in files:
        with file.open("rb") as content:
            parts.append(f"{file.name}={hashlib.file_digest(content, 'sha256').hexdigest()}")
    return sha256_text("\n".join(parts)) if parts else path


def find_missing_members(config: VoteConfig, inputs: Mapping[str, str]) -> dict[int, str]:
    """The members that have not finished, each with what is known of it.

    Raises `InputError` for a member, finished or not, that was made with other settings or from other `inputs`
    (digests); where these do not name the base model, all members' must be that of the first.
    """
    absent = {}
    for member in range(config.members):
        made = read_member(config, member, inputs)
        if made is None:
            absent[member] = "is missing"
            continue
        inputs = {**made["inputs"], **inputs}
        if "finished" not in made:
            absent[member] = f"failed ({made['failed']})" if "failed" in made else "is unfinished (at work, or killed)"
    return absent


def check_missing_members(config: VoteConfig, absent: Mapping[int, str]) -> None:
    """Refuse a vote that lacks members, naming each, unless a partial one is asked for; that needs 2 of them."""
    voted = config.members - len(absent)
    if not absent or (config.partial and voted >= 2):
        return
    wanted = "2 or more" if config.partial else f"all {config.members}"
    named = [f"Member {member} {state}: run `rmkit vote ... --member {member}`." for member, state in absent.items()]
    hint = [] if config.partial else ["--partial merges those that have finished."]
    raise_input_error(
        f"vote: {find_folder(config, 0).parent}",
        f"{wanted} members' votes",
        Verbatim(f"those of {voted}"),
        " ".join([*named, *hint]),
    )


def finished_members(config: VoteConfig, absent: Container[int]) -> list[int]:
    """The members that are not absent, in their order."""
    return [member for member in range(config.members) if member not in absent]


def merge_votes(config: VoteConfig, pairs: Mapping[str, Dataset], voters: Sequence[int]) -> dict[str, EnsembleRewards]:
    """Rewards by split: those of each of `voters`, in their order, in the order of `pairs`."""
    rewards = {}
    for split, rows in pairs.items():
        rewards[split] = EnsembleRewards(*memmap_zeros((2, len(voters), len(rows)), np.float64))
        for row, member in enumerate(voters):
            scores = read_scores(find_folder(config, member) / SCORES / f"{split}.parquet", rows)
            for side, values in zip(rewards[split], scores, strict=True):
                side[row] = values
    return rewards


def read_scores(path: Path, rows: Dataset) -> list[NDArray[np.float64]]:
    """A member's rewards of each side, for the pairs in `rows`, in their order."""
    scores = np.empty((2, len(rows)))
    try:
        with parquet.ParquetFile(path) as file:
            done = 0
            for scored, block in zip(file.iter_batches(BLOCK), stream_blocks(rows, ["id"]), strict=False):
                if not scored["id"].equals(block["id"].combine_chunks()):
                    break
                scores[:, done:done + len(block)] = [scored[side].to_numpy() for side in EnsembleRewards._fields]
                done += len(block)
        return list(scores) if done == len(rows) else join_scores(path, rows)
    except (OSError, ValueError, KeyError) as error:  # such as a copy that was cut short
        raise_input_error(
            str(path), "the member's rewards of every pair", Verbatim(error), "Copy the member's folder again."
        )


def join_scores(path: Path, rows: Dataset) -> list[NDArray[np.float64]]:
    """The same where the member has its pairs in another order, or not all of them; both tables are held in memory."""
    table = parquet.read_table(path)
    ids = rows.select_columns(["id"]).with_format("arrow")[:]["id"]
    places = compute.index_in(ids, value_set=table["id"].combine_chunks())
    if places.null_count:
        raise ValueError(f"no votes on {places.null_count} of the pairs")
    return [table[side].to_numpy()[places.to_numpy()] for side in EnsembleRewards._fields]
