"""Reward models as judges: each member of an ensemble scores each response on a stated scale."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import read_json, write_json
from rmkit.data.token_batches import MAX_TOKENS, encode_groups
from rmkit.judges.base import JudgeAnswer, JudgeSpec, JudgeTask, Judgment, Messages, Scale, check_tasks
from rmkit.judges.config import RewardModelJudgeConfig
from rmkit.judges.sanitize import break_tokens, special_tokens
from rmkit.models.scoring import load_scorer, prefix_sharing_budget, score_units


@dataclass(frozen=True)
class ScoreScale:
    """Maps rewards to scores, member by member:

        score = low + (high - low) sigmoid((reward - centre[member]) / spread[member])

    Rewards of one model are comparable with each other only: members differ in offset and scale, which this removes.
    """

    scale: Scale
    centre: tuple[float, ...]
    spread: tuple[float, ...]

    def transform(self, rewards: ArrayLike) -> NDArray[np.float64]:
        """Scores of rewards [member, response]."""
        array = finite_array("rewards", rewards, ("member", "response"))
        if len(array) != len(self.centre):
            raise_input_error("rewards", f"{len(self.centre)} members", Verbatim(len(array)), "Fit the scale on them.")
        centre, spread = (np.array(values)[:, None] for values in (self.centre, self.spread))
        return self.scale.low + (self.scale.high - self.scale.low) * expit((array - centre) / spread)


def fit_scale(rewards: ArrayLike, scale: Scale) -> ScoreScale:
    """The `ScoreScale` with the mean and standard deviation of each member's rewards [member, response].

    Raises `InputError` for NaN, and for a member that gives every response the same reward.
    """
    array = finite_array("rewards", rewards, ("member", "response"))
    spread = array.std(axis=1)
    constant = np.ptp(array, axis=1) == 0  # the standard deviation of equal numbers may be a rounding error
    if constant.any():
        raise_input_error(
            "rewards",
            "different rewards from each member",
            Verbatim(f"equal ones from member {int(np.argmax(constant))}"),
            "Fit the scale on more responses.",
        )
    return ScoreScale(scale, tuple(array.mean(axis=1).tolist()), tuple(spread.tolist()))


class EnsembleScore(NamedTuple):
    """Scores of an ensemble, arrays over [response] on the scale of the members' scores."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    conservative: NDArray[np.float64]


def ensemble_score(scores: ArrayLike, *, std_penalty: float) -> EnsembleScore:
    """Mean, spread and conservative score of members' scores [member, response].

    `conservative` is the lower confidence bound mean - std_penalty * std, where std, the spread, is the population
    standard deviation over members (0 for one member). Raises `InputError` for NaN, other shapes and a negative
    `std_penalty`.

    Source: Coste et al. 2023 (arXiv 2310.02743), uncertainty-weighted optimisation, there with the variance.
    """
    array = finite_array("scores", scores, ("member", "response"))
    if not std_penalty >= 0:
        raise_input_error("std_penalty", "a number >= 0", std_penalty, "1 subtracts one standard deviation.")
    mean, spread = array.mean(axis=0), array.std(axis=0)
    return EnsembleScore(mean, spread, mean - std_penalty * spread)


class RewardModelJudge:
    """One judgment of each response by every member of `scorer`, mapped by `score_scale`; without text."""

    responses = 1

    def __init__(self, scorer: "ModelScorer", score_scale: ScoreScale) -> None:
        self.scorer, self.score_scale = scorer, score_scale

    def judge(self, tasks: Sequence[JudgeTask]) -> list[list[JudgeAnswer]]:
        """The judgments of each task, [task][member]."""
        check_tasks(tasks, self.responses)
        rewards, tokens = self.scorer.score(tasks)
        scores = self.score_scale.transform(rewards)
        return [
            [Judgment(sample=member, score=score, reward=reward, prompt_tokens=count, answer_tokens=0)
             for member, (score, reward) in enumerate(zip(*columns, strict=True))]
            for *columns, count in zip(scores.T.tolist(), rewards.T.tolist(), tokens.tolist(), strict=True)
        ]


class ModelScorer:
    """Reward models at `paths`, each a member, all in memory; on the accelerator if there is one.

    Text that spells one of a tokenizer's special tokens is not encoded as that token, which could end a turn and begin
    another.
    """

    def __init__(
        self, paths: Iterable[str | Path], *, max_length: int, max_tokens_per_batch: int = MAX_TOKENS,
        trust_remote_code: bool = False,
    ) -> None:
        self.max_length = max_length
        self.max_tokens_per_batch = max_tokens_per_batch
        self.members = [load_scorer(path, trust_remote_code=trust_remote_code) for path in paths]

    def score(self, tasks: Sequence[JudgeTask]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Rewards [member, task] of tasks with one response, and the tokens of each task, summed over members.

        Prompts are cut from the left to fit `max_length`. Raises `ResponseTooLong` if a response alone exceeds it, and
        `InputError` for a reward that is not finite.
        """
        rewards = np.empty((len(self.members), len(tasks)))
        tokens = np.zeros(len(tasks), np.int64)
        for member, (model, tokenizer) in enumerate(self.members):
            rows = Dataset.from_list(group_tasks(tasks, special_tokens(tokenizer)))
            sharing = prefix_sharing_budget(model, self.max_length, self.max_tokens_per_batch)
            units = encode_groups(rows, tokenizer, self.max_length, max_tokens_per_batch=sharing)
            rewards[member] = score_units(
                model, tokenizer, units, max_length=self.max_length, max_tokens_per_batch=self.max_tokens_per_batch
            )
            tokens += [len(sequence) for group in units["input_ids"] for sequence in group]
        return rewards, tokens


def group_tasks(tasks: Sequence[JudgeTask], special: Sequence[str]) -> list[dict[str, object]]:
    """Rows of a prompt and its responses, consecutive tasks with one prompt grouped; special tokens are broken up."""
    def broken(messages: Messages) -> list[dict[str, str]]:
        return [{"role": message["role"], "content": break_tokens(message["content"], special)} for message in messages]

    groups = [list(group) for _, group in itertools.groupby(tasks, key=lambda task: task.prompt)]
    return [{"id": group[0].id, "prompt": broken(group[0].prompt),
             "responses": [broken(task.responses[0]) for task in group]} for group in groups]


def judge_spec(settings: RewardModelJudgeConfig) -> JudgeSpec:
    """What the answers of an ensemble of reward models look like."""
    names = tuple(settings.models)
    scale = Scale(settings.score_min, settings.score_max)
    return JudgeSpec(1, scale, len(names), settings.models, names, settings.std_penalty)


def build_judge(
    settings: RewardModelJudgeConfig, *, reference: Sequence[JudgeTask], folder: Path, trust_remote_code: bool, **_: Any
) -> RewardModelJudge:
    """The judge, its models loaded; the scale fitted on `reference` is kept in `folder` for a resumed run."""
    scorer = ModelScorer(
        settings.models.values(), max_length=settings.max_length, max_tokens_per_batch=settings.max_tokens_per_batch,
        trust_remote_code=trust_remote_code,
    )
    fitted = read_json(folder / "scale.json")
    if fitted is None:
        fitted = dataclasses.asdict(fit_scale(scorer.score(reference)[0], judge_spec(settings).scale))
        write_json(folder / "scale.json", {"key": "scale", **fitted})
    score_scale = ScoreScale(judge_spec(settings).scale, tuple(fitted["centre"]), tuple(fitted["spread"]))
    return RewardModelJudge(scorer, score_scale)
