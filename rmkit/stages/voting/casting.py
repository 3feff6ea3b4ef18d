"""One fine-tuned member's vote, a job of its own: train, score, and leave the rewards by pair `id`."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.core.stages import open_stage, write_json
from rmkit.data.tables import number_prompts, write_table
from rmkit.models.folds import assign_folds
from rmkit.models.scoring import score_with
from rmkit.stages.voting.electing import Rewards, VoteConfig, member_config
from rmkit.stages.voting.membership import BEGUN, find_folder, member_settings, read_member
from rmkit.stages.training import train
from rmkit.training.checkpoint import tell_disk_faults

SCORES = "scores"
LESSONS = "lessons"
REASON = 300  # characters of a failure's reason that are kept


def cast_vote(config: VoteConfig, member: int, pairs: Mapping[str, Dataset], inputs: Mapping[str, str]) -> Path:
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
            with tell_failure(folder, begun):
                write_json(folder / BEGUN, begun)
                rewards = earn_rewards(config, member, pairs, folder)
                for split, rows in pairs.items():
                    write_scores(rows, rewards[split], folder / SCORES / f"{split}.parquet")
            rows = sum(map(len, pairs.values()))
            stage.record.update(rows_in=rows, rows_out=rows, summary=f"member {member} votes on {rows} pairs")
        print(f"{stage.record['summary']}: {folder}")
    shutil.rmtree(folder / LESSONS, ignore_errors=True)  # sealed, it needs them no more
    return folder


@contextlib.contextmanager
def tell_failure(folder: Path, begun: dict[str, Any]) -> Iterator[None]:
    """Leave the reason of a failure in the member's folder, and the member's name in the message."""
    try:
        with tell_disk_faults(folder):
            yield
    except Exception as error:
        reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            write_json(folder / BEGUN, {**begun, "failed": " ".join(reason.split())[:REASON]})
        if isinstance(error, InputError):
            raise InputError(f"member {begun['config']['member']}: {error}") from None
        raise


def earn_rewards(
    config: VoteConfig, member: int, pairs: Mapping[str, Dataset], folder: Path
) -> dict[str, NDArray[np.float64]]:
    """Rewards [side, pair] of each split by the member's models, which are trained where they are not finished."""
    rewards = {split: np.empty((2, len(rows))) for split, rows in pairs.items()}
    lessons = pairs["train"]
    for fold, scored in enumerate(divide(config, lessons)):
        data, place = config.data, folder / "model"
        if config.folds:
            others = np.delete(np.arange(len(lessons)), scored)
            data = str(write_lessons(lessons, others, folder / LESSONS / f"fold-{fold}"))
            place = folder / f"without-fold-{fold}"
        train(member_config(config, data, place, member))
        rewards["train"][:, scored] = score(config, place, lessons.select(scored))
        for split in pairs.keys() - {"train"} if fold == 0 else ():
            rewards[split][:] = score(config, place, pairs[split])
    return rewards


def divide(config: VoteConfig, lessons: Dataset) -> list[NDArray[np.intp]]:
    """The positions of the train pairs that each of a member's models scores: in-sample one model all of them, or
    cross-fitted each a fold, being trained on the others."""
    if not config.folds:
        return [np.arange(len(lessons))]
    fold_of_pair = assign_folds(number_prompts(lessons), config.folds, seed=derive_seed(config.seed, "folds"))
    return [np.flatnonzero(fold_of_pair == fold) for fold in range(config.folds)]


def write_lessons(lessons: Dataset, rows: NDArray[np.intp], folder: Path) -> Path:
    """The folder with the pairs that one of a member's models is trained on; left alone once it is there."""
    path = folder / "train.parquet"
    if not path.exists():  # a new time of writing would make a finished model look outdated
        folder.mkdir(parents=True, exist_ok=True)
        write_table(lessons.select(rows), path)
    return folder


def score(config: VoteConfig, place: Path, rows: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rewards of both sides of `rows` by the model in `place`."""
    return score_with(
        place, rows, max_length=config.max_length, tokens_at_once=config.tokens_at_once,
        trust_remote_code=config.trust_remote_code,
    )


def write_scores(rows: Dataset, rewards: NDArray[np.float64], path: Path) -> None:
    """One split's rewards beside the ids of the pairs."""
    path.parent.mkdir(exist_ok=True)
    write_table(rows.select_columns(["id"]), path, dict(zip(Rewards._fields, rewards, strict=True)))
