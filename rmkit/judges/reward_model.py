"""Reward models as judges: every member of an ensemble gives each response a score, on a scale that is stated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Seen, refuse
from rmkit.judges.judgment import Given, Judgment, Scale, Task, check_tasks


class Rewards(NamedTuple):
    """What reward models gave: rewards [member, task], and the tokens that each task took [task]."""

    rewards: NDArray[np.float64]
    tokens: NDArray[np.int64]


class Scorer(Protocol):
    """One reward model or the members of an ensemble."""

    def score(self, tasks: Sequence[Task]) -> Rewards:
        """The rewards of tasks with one response each."""


@dataclass(frozen=True)
class RewardScale:
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
            refuse("rewards", f"{len(self.centre)} members", Seen(len(array)), "Measure the scale on the same ones.")
        centre, spread = (np.array(values)[:, None] for values in (self.centre, self.spread))
        return self.scale.low + (self.scale.high - self.scale.low) * expit((array - centre) / spread)


def measure_scale(rewards: ArrayLike, scale: Scale) -> RewardScale:
    """The `RewardScale` on which each member's rewards [member, response] have mean 0 and standard deviation 1.

    Raises `InputError` for NaN, and for a member that gives every response the same reward.
    """
    array = finite_array("rewards", rewards, ("member", "response"))
    spread = array.std(axis=1)
    alike = np.ptp(array, axis=1) == 0  # the deviation of equal numbers may be a rounding error
    if alike.any():
        refuse("rewards", "two different ones from each member", Seen(f"one from member {int(np.argmax(alike))}"),
               "Measure on more responses.")
    return RewardScale(scale, tuple(array.mean(axis=1).tolist()), tuple(spread.tolist()))


class EnsembleScore(NamedTuple):
    """An ensemble's view of each response: arrays over [response], on the scale of the members' scores."""

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    conservative: NDArray[np.float64]


def summarise_members(scores: ArrayLike, *, k: float) -> EnsembleScore:
    """Mean, spread and conservative score of `scores` [member, response]: mean - k spread is believed by the doubtful.

    The spread is the population standard deviation over members (0 for one member). Raises `InputError` for NaN, other
    shapes and a negative `k`.

    Source: Coste et al. 2023 (arXiv 2310.02743), uncertainty-weighted optimisation, there with the variance.
    """
    array = finite_array("scores", scores, ("member", "response"))
    if not k >= 0:
        refuse("k", "a number that is not negative", k, "1 takes away one standard deviation.")
    mean, spread = array.mean(axis=0), array.std(axis=0)
    return EnsembleScore(mean, spread, mean - k * spread)


class RewardModelJudge:
    """One judgment of each response by every member of `scorer`, on `scale`; they do not write."""

    responses = 1

    def __init__(self, scorer: Scorer, scale: RewardScale) -> None:
        self.scorer = scorer
        self.mapping = scale
        self.scale = scale.scale

    def judge(self, tasks: Sequence[Task]) -> list[list[Given]]:
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
