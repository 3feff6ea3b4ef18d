"""Full members of `rmkit vote`: each is trained and scores the pairs in a folder of its own."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.commands.train import train
from rmkit.core.arrays import text_key
from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage, read_json, read_record, sha256_text, write_json
from rmkit.data.encoding import LABELS
from rmkit.data.memmap import memmap_zeros
from rmkit.data.parquet import PAIR_SIDES, prompt_ids, stream_rows, write_table
from rmkit.ensembles.folds import assign_folds
from rmkit.ensembles.voting import EnsembleRewards, read_member_rewards, write_member_rewards
from rmkit.models.scoring import score_pairs_from_path
from rmkit.training.checkpoint import report_disk_errors

if TYPE_CHECKING:
    from rmkit.commands.vote import VoteConfig

SCORES = "scores"
FOLD_PAIRS = "fold_pairs"
MEMBER_FILE = "member.json"  # written at the start, unlike stage.json; has the reason of a failure
MAX_REASON = 300  # characters
NOT_OF_MEMBER = ("data", "model_name_or_path", "output_dir", "members")  # paths differ between machines


class Members:
    """The full members of the vote that `config` describes, on `pairs` by split."""

    def __init__(self, config: "VoteConfig", pairs: Mapping[str, Dataset]) -> None:
        self.config = config
        self.pairs = pairs

    def folder(self, member: int) -> Path:
        """A member's folder. It is beside the vote's, which is emptied when the vote's settings change."""
        return Path(f"{Path(self.config.output_dir)}-members") / str(member)

    def settings(self, member: int) -> dict[str, Any]:
        """The settings that a member's rewards depend on, as in its record."""
        settings = {key: value for key, value in self.config.output_settings().items() if key not in NOT_OF_MEMBER}
        return json.loads(json.dumps({**settings, "member": member}, default=str))

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Hashes of the pairs and of the base model; merging works without the model."""
        hashes = {"data": hash_pairs(self.pairs)}
        return hashes if self.config.merge else {**hashes, "model": hash_model(self.config.model_name_or_path)}

    def run(self, member: int) -> Path:
        """Train a member's models and write its rewards of every pair to `scores`; its folder.

        Cross-fitted, it has one model per fold, which scores that fold's train pairs; the first one also scores the
        validation and test pairs. A finished member is kept, an interrupted or failed one resumed. Raises `InputError`,
        naming the member, for a folder of another vote and for a failure of training.
        """
        self.read_record(member, self.inputs)  # refused here, where open_stage would empty the folder
        folder, settings = self.folder(member), self.settings(member)
        with open_stage(folder, "member", settings, self.inputs) as stage:
            if not stage.done:
                record = {"key": stage.key, "config": settings, "inputs": self.inputs}
                with record_failure(folder, record):
                    write_json(folder / MEMBER_FILE, record)
                    rewards = self.score(member)
                    for split, rows in self.pairs.items():
                        write_member_rewards(rows, rewards[split], folder / SCORES / f"{split}.parquet")
                rows = sum(map(len, self.pairs.values()))
                stage.record.update(rows_in=rows, rows_out=rows, summary=f"member {member} votes on {rows} pairs")
            print(f"{stage.record['summary']}: {folder}")
        shutil.rmtree(folder / FOLD_PAIRS, ignore_errors=True)
        return folder

    def score(self, member: int) -> dict[str, NDArray[np.float64]]:
        """Rewards [side, pair] of each split by the member's models, which are trained unless they are finished."""
        config, folder, train_pairs = self.config, self.folder(member), self.pairs["train"]
        score = partial(
            score_pairs_from_path, max_length=config.max_length, max_tokens_per_batch=config.max_tokens_per_batch,
            trust_remote_code=config.trust_remote_code,
        )
        fold_of_pair = np.zeros(len(train_pairs), np.int32)
        if config.folds:
            fold_of_pair = assign_folds(prompt_ids(train_pairs), config.folds, seed=derive_seed(config.seed, "folds"))
        rewards = {split: np.empty((2, len(rows))) for split, rows in self.pairs.items()}
        for fold in range(config.folds or 1):
            data, model = config.data, folder / "model"
            if config.folds:
                others = np.flatnonzero(fold_of_pair != fold)
                data = str(write_fold_pairs(train_pairs, others, folder / FOLD_PAIRS / f"fold-{fold}"))
                model = folder / f"without-fold-{fold}"
            train(config.member_config(data, model, member))
            held_out = np.flatnonzero(fold_of_pair == fold)
            rewards["train"][:, held_out] = score(model, train_pairs.select(held_out))
            for split in self.pairs.keys() - {"train"} if fold == 0 else ():
                rewards[split][:] = score(model, self.pairs[split])
        return rewards

    def read_record(self, member: int, inputs: Mapping[str, str]) -> dict[str, Any] | None:
        """The record of a member, finished or not; None where there is none.

        Raises `InputError` for a member made with other settings, or from other `inputs` (hashes).
        """
        folder = self.folder(member)
        record = read_record(folder) or read_json(folder / MEMBER_FILE)
        if record is not None:
            found = {**record.get("config", {}), **record.get("inputs", {})}
            wanted = {**self.settings(member), **inputs}
            differences = [
                describe_difference(key, found.get(key), wanted[key]) for key in wanted if found.get(key) != wanted[key]
            ]
            if differences:
                raise_input_error(
                    f"member {member} in {folder}",
                    "one of this vote",
                    Verbatim("; ".join(differences)),
                    f"Name another output_dir, or delete what is of no use in {folder.parent}; nothing was changed.",
                )
        return record

    def find_missing(self) -> dict[int, str]:
        """The members that are not finished, each with its state.

        Raises `InputError` for a member made with other settings or inputs. Merging, which has no base model, takes
        the first member's as that of all.
        """
        missing, inputs = {}, self.inputs
        for member in range(self.config.members):
            record = self.read_record(member, inputs)
            if record is None:
                missing[member] = "is missing"
                continue
            inputs = {**record["inputs"], **inputs}
            if "finished" not in record:
                failed = record.get("failed")
                missing[member] = f"failed ({failed})" if failed else "is unfinished (running or killed)"
        return missing

    def check_missing(self, missing: Mapping[int, str]) -> None:
        """Refuse a vote with missing members, naming each, unless they are allowed and 2 or more are finished."""
        allowed, finished = self.config.allow_missing, self.config.members - len(missing)
        if allowed and finished >= 2:
            return
        hints = [
            f"Member {number} {state}: run `rmkit vote ... --member {number}`." for number, state in missing.items()
        ]
        if not allowed:
            hints.append("--allow_missing merges those that are finished.")
        raise_input_error(
            f"vote: {self.folder(0).parent}",
            f"{'2 or more' if allowed else f'all {self.config.members}'} members' votes",
            Verbatim(f"those of {finished}"),
            " ".join(hints),
        )

    def read_rewards(self, members: Sequence[int]) -> dict[str, EnsembleRewards]:
        """Rewards by split of these members, in their order."""
        rewards = {}
        for split, rows in self.pairs.items():
            table = memmap_zeros((2, len(members), len(rows)), np.float64)
            for row, member in enumerate(members):
                table[:, row] = read_member_rewards(self.folder(member) / SCORES / f"{split}.parquet", rows)
            rewards[split] = EnsembleRewards(*table)
        return rewards


@contextlib.contextmanager
def record_failure(folder: Path, record: dict[str, Any]) -> Iterator[None]:
    """Write the reason of a failure to the member's folder, and put the member's number before the message."""
    try:
        with report_disk_errors(folder):
            yield
    except Exception as error:
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            write_json(folder / MEMBER_FILE, {**record, "failed": " ".join(reason.split())[:MAX_REASON]})
        if isinstance(error, InputError):
            raise InputError(f"member {record['config']['member']}: {error}") from None
        raise


def write_fold_pairs(pairs: Dataset, rows: NDArray[np.intp], folder: Path) -> Path:
    """Write the pairs that a fold's model is trained on; the folder. An existing file is kept, with its time."""
    path = folder / "train.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_table(pairs.select(rows), path)
    return folder


def describe_difference(key: str, found: Any, wanted: Any) -> str:
    """How one setting or input differs; for a section, its keys that do."""
    if key in ("data", "model"):
        return f"other contents of {key}"
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        names = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
        return "; ".join(describe_difference(f"{key}.{name}", found.get(name), wanted.get(name)) for name in names)
    return f"{key} {found!r} instead of {wanted!r}"


def hash_pairs(pairs: Mapping[str, Dataset]) -> str:
    """Hash of the ids, texts and labels of the pairs by split, in any order and file.

    Raises `InputError` for an id that is missing or repeated in a split, since votes are joined by id.
    """
    parts = []
    for split, rows in sorted(pairs.items()):
        total = 0
        ids: set[bytes] = set()
        for row in stream_rows(rows, [name for name in ("id", *PAIR_SIDES, *LABELS) if name in rows.column_names]):
            if row["id"] is not None:
                ids.add(text_key(str(row["id"])))
            total += int(sha256_text(json.dumps(row, sort_keys=True, default=str)), 16)
        if len(ids) < len(rows):
            raise_input_error(
                f"{split}: id",
                "a unique one for each pair",
                Verbatim(f"{len(ids)} ids of {len(rows)} pairs"),
                "`rmkit read` gives them.",
            )
        parts.append(f"{split} {len(rows)} {total % 2**256}")
    return sha256_text("\n".join(parts))


def hash_model(path: str) -> str:
    """Hash of the contents of a base model's folder; a hub name as it is."""
    parts = []
    for file in sorted(file for file in Path(path).glob("*") if file.is_file()):
        with file.open("rb") as content:
            parts.append(f"{file.name}={hashlib.file_digest(content, 'sha256').hexdigest()}")
    return sha256_text("\n".join(parts)) if parts else path
