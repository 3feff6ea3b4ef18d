"""Reward models as judges: every member of an ensemble gives each response a score, on a scale that is stated."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.token_batches import MAX_TOKENS, encode_groups
from rmkit.judges.base import Given, JudgeTask, Judgment, Messages, Scale, check_tasks
from rmkit.judges.sanitize import break_tokens, special_tokens
from rmkit.models.scoring import load_scorer, prefix_sharing_budget, score_units


class Rewards(NamedTuple):
    """What reward models gave: rewards [member, task], and the tokens that each task took [task]."""

    rewards: NDArray[np.float64]
    tokens: NDArray[np.int64]


class Scorer(Protocol):
    """One reward model or the members of an ensemble."""

    def score(self, tasks: Sequence[JudgeTask]) -> Rewards:
        """The rewards of tasks with one response each."""


@dataclass(frozen=True)
class ScoreScale:
    """How rewards become scores, member by member:

        score = low + (high - low) sigmoid((reward - centre[member]) / spread[member])

    A reward means something beside other rewards of the same model alone: members differ in where theirs begin and in
    how far they reach, until both are taken away.
    """

    scale: Scale
    centre: tuple[float, ...]
    spread: tuple[float, ...]

    def place(self, rewards: ArrayLike) -> NDArray[np.float64]:
        """Scores of rewards [member, response]."""
        array = finite_array("rewards", rewards, ("member", "response"))
        if len(array) != len(self.centre):
            raise_input_error(
                "rewards", f"{len(self.centre)} members", Verbatim(len(array)), "Measure the scale on the same ones."
            )
        centre, spread = (np.array(values)[:, None] for values in (self.centre, self.spread))
        return self.scale.low + (self.scale.high - self.scale.low) * expit((array - centre) / spread)


def fit_scale(rewards: ArrayLike, scale: Scale) -> ScoreScale:
    """The `ScoreScale` on which each member's rewards [member, response] have mean 0 and standard deviation 1.

    Raises `InputError` for NaN, and for a member that gives every response the same reward.
    """
    array = finite_array("rewards", rewards, ("member", "response"))
    spread = array.std(axis=1)
    alike = np.ptp(array, axis=1) == 0  # the deviation of equal numbers may be a rounding error
    if alike.any():
        raise_input_error(
            "rewards",
            "two different ones from each member",
            Verbatim(f"one from member {int(np.argmax(alike))}"),
            "Measure on more responses.",
        )
    return ScoreScale(scale, tuple(array.mean(axis=1).tolist()), tuple(spread.tolist()))


class EnsembleScore(NamedTuple):
    """An ensemble's view of each response: arrays over [response], on the scale of the members' scores."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    conservative: NDArray[np.float64]


def ensemble_score(scores: ArrayLike, *, k: float) -> EnsembleScore:
    """Mean, spread and conservative score of `scores` [member, response]: mean - k spread is believed by the doubtful.

    The spread is the population standard deviation over members (0 for one member). Raises `InputError` for NaN, other
    shapes and a negative `k`.

    Source: Coste et al. 2023 (arXiv 2310.02743), uncertainty-weighted optimisation, there with the variance.
    """
    array = finite_array("scores", scores, ("member", "response"))
    if not k >= 0:
        raise_input_error("k", "a number that is not negative", k, "1 takes away one standard deviation.")
    mean, spread = array.mean(axis=0), array.std(axis=0)
    return EnsembleScore(mean, spread, mean - k * spread)


class RewardModelJudge:
    """One judgment of each response by every member of `scorer`, on `scale`; they do not write."""

    responses = 1

    def __init__(self, scorer: Scorer, scale: ScoreScale) -> None:
        self.scorer = scorer
        self.mapping = scale
        self.scale = scale.scale

    def judge(self, tasks: Sequence[JudgeTask]) -> list[list[Given]]:
        """The judgments of each task, [task][member]."""
        check_tasks(tasks, self.responses)
        rewards, tokens = self.scorer.score(tasks)
        scores = self.mapping.place(rewards)
        return [
            [
                Judgment(sample=member, score=float(scores[member, place]), reward=float(rewards[member, place]),
                         prompt_tokens=int(tokens[place]), answer_tokens=0)
                for member in range(len(rewards))
            ]
            for place in range(len(tasks))
        ]


class ModelScorer:
    """Reward models at `paths`, each a member, all in memory; on the accelerator where there is one.

    A prompt or a response that spells out one of a tokenizer's special tokens does not become that token: it could end
    its turn and pose as the next one.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        *,
        max_length: int,
        max_tokens_per_batch: int = MAX_TOKENS,
        trust_remote_code: bool = False,
    ) -> None:
        self.max_length = max_length
        self.max_tokens_per_batch = max_tokens_per_batch
        self.members = [load_scorer(path, trust_remote_code=trust_remote_code) for path in paths]

    def score(self, tasks: Sequence[JudgeTask]) -> Rewards:
        """Rewards [member, task], and the tokens of each task, all members' together.

        Prompts are cut from the left to fit `max_length`. Raises `OverLong` when a response alone exceeds it, and
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
        return Rewards(rewards, tokens)


def group_tasks(tasks: Sequence[JudgeTask], special: Sequence[str]) -> list[dict[str, object]]:
    """Rows of a prompt and its responses, those of tasks in a row; no special token is spelt out in them."""
    return [
        {"id": own[0].id, "prompt": spell_out(prompt, special),
         "responses": [spell_out(task.responses[0], special) for task in own]}
        for prompt, group in itertools.groupby(tasks, key=lambda task: task.prompt) for own in [list(group)]
    ]


def spell_out(messages: Messages, special: Sequence[str]) -> list[dict[str, str]]:
    """Messages in which each special token is words."""
    return [{"role": message["role"], "content": break_tokens(message["content"], special)} for message in messages]
