"""Judge pairs: which of a response's judgments to prefer and which to avoid, from the meta-judge's verdicts."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.meta_rewarding.actor_selection import read_arrays, select_pairs
from rmkit.metrics import PositionWeights, bradley_terry, position_weights, win_matrix

DIGITS = 6  # of a rating in logits that are told apart


@dataclass(frozen=True)
class JudgePairs:
    """Arrays over [prompt]: the places of the chosen and the rejected judgment, -1 where there is no pair.

    why: "" where there is a pair; else why there is none, as `select_judgments` names it.
    ratings: [prompt, judgment] in logits, NaN for a judgment without a battle.
    weights: what a win of the judgment shown first, and of the one shown second, was worth.
    """

    chosen: NDArray[np.intp]
    rejected: NDArray[np.intp]
    why: NDArray[np.str_]
    ratings: NDArray[np.float64]
    weights: PositionWeights

    def count(self) -> dict[str, int]:
        """How many prompts gave a pair, under "pairs", and how many did not, by reason."""
        return {("pairs" if not why else why): number for why, number in Counter(self.why.tolist()).items()}


def select_judgments(
    verdicts: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    max_length: float | None = None,
    ridge: float = 0.01,
    scores: ArrayLike | None = None,
    scope: Literal["all", "prompt"] = "all",
) -> JudgePairs:
    """The judgments of highest and lowest Elo rating of each prompt's disputed response, after the paper's filters.

    Verdicts are weighed against position bias (`position_weights`), made a battle matrix (`win_matrix`), and rated
    by maximum likelihood (`bradley_terry` with `ridge`). Reasons why a prompt has no pair, the first that holds:

        no battle        fewer than two judgments of which a verdict that counts tells anything
        equal ratings    to six digits of a logit
        not joined       no chain of battles leads from the highest to the lowest: their ratings share no scale
        equal scores     where `scores` are given
        too long         the highest is longer than `max_length`; the pair is dropped, no other takes its place

    Args:
        verdicts: [prompt, judgment, judgment], 1 where the row, shown first, was preferred, -1 where the column was,
            0 a tie, NaN none; as `MetaJudge.battle` gives them. Of reward models `compare_members`' answers, whose
            judgments are members: no one is shown first, so that both positions weigh 1/2.
        lengths: [prompt, judgment], characters. Of equal highest ratings the shortest judgment is taken, of equal
            lowest ones the longest. Without lengths, the first.
        max_length: characters; the paper has 1100 in its first iteration, 1000 in its second.
        scores: [prompt, judgment], what the judgments say, NaN where not known; given, a pair must differ in them.
            The paper does not ask for that.
        scope: of the position weights, see there.

    Raises `InputError` for shapes that do not fit, and as the functions named do.

    Source: arXiv 2407.19594, Section 2.3; ridge, ties and the order of filters are not in it.
    """
    weights = position_weights(verdicts, scope=scope)
    wins = win_matrix(verdicts, weights)
    if wins.ndim != 3:
        raise_input_error(
            "verdicts", "an array over [prompt, judgment, judgment]", Verbatim(f"shape {wins.shape}"), "Give all axes."
        )
    if lengths is None and max_length is not None:
        raise_input_error("max_length", "None, as there are no lengths", max_length, "Pass the judgments' lengths.")
    fought = (wins.sum(axis=1) + wins.sum(axis=2)) > 0
    rated = bradley_terry(wins, ridge=ridge)
    ratings = np.where(fought, rated.ratings, np.nan)
    sizes = np.where(fought, 0.0, np.nan) if lengths is None else read_arrays(ratings, lengths)[1]
    pairs = select_pairs(np.round(ratings, DIGITS), sizes, rho=0.0)

    def pick(values: NDArray[Any]) -> NDArray[Any]:
        """Values [side, prompt] of both judgments of each pair; where there is none, of whatever stands last."""
        return np.take_along_axis(values, pairs, axis=1).T

    joined, other = pick(rated.components)
    reasons = {
        "no battle": fought.sum(axis=1) < 2,
        "equal ratings": pairs[:, 0] < 0,
        "not joined": joined != other,
    }
    if scores is not None:
        said = np.asarray(scores, dtype=np.float64)
        same_shape("scores", said, "ratings", ratings)
        high, low = pick(said)
        reasons["equal scores"] = high == low
    if max_length is not None:
        reasons["too long"] = pick(sizes)[0] > max_length
    why = np.select(list(reasons.values()), list(reasons), default="")
    kept = np.where((why == "")[:, None], pairs, -1)
    return JudgePairs(kept[:, 0], kept[:, 1], why, ratings, weights)
