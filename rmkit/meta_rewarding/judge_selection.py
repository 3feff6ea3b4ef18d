"""Judge pairs: which of a response's judgments is chosen and which rejected, by the meta-judge's verdicts."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.meta_rewarding.actor_selection import select_pairs, validate_scores
from rmkit.metrics import PositionWeights, bradley_terry, position_weights, win_matrix

DIGITS = 6  # ratings in logits are compared after rounding to this many decimals


@dataclass(frozen=True)
class JudgePairs:
    """Arrays over [prompt]: indices of the chosen and the rejected judgment, -1 where there is no pair.

    skip_reason: "" where there is a pair, else one of the reasons in `select_judgments`.
    ratings: [prompt, judgment] in logits, NaN for a judgment that was not compared.
    weights: what a win in first and in second position counts.
    """

    chosen: NDArray[np.intp]
    rejected: NDArray[np.intp]
    skip_reason: NDArray[np.str_]
    ratings: NDArray[np.float64]
    weights: PositionWeights

    def count(self) -> dict[str, int]:
        """Number of prompts with a pair, under "pairs", and without one, by reason."""
        return dict(Counter(reason or "pairs" for reason in self.skip_reason.tolist()))


def select_judgments(
    verdicts: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    max_length: float | None = None,
    ridge: float = 0.01,
    scores: ArrayLike | None = None,
) -> JudgePairs:
    """The judgments with the highest and the lowest Elo rating for each prompt, after the paper's filters.

    Verdicts are weighted against position bias (`position_weights`), summed to a win matrix (`win_matrix`), and rated
    by maximum likelihood (`bradley_terry` with `ridge`). A prompt is skipped for the first reason that applies:

        not compared     fewer than two judgments with a verdict that counts
        equal ratings    to six decimals of a logit
        not connected    no chain of comparisons links the highest to the lowest, so their ratings share no scale
        equal scores     where `scores` are given
        too long         the highest rated is longer than `max_length`; no other judgment replaces it

    Args:
        verdicts: [prompt, judgment, judgment] of `MetaJudge.compare`: 1 where the row, shown first, won, -1
            where the column was, 0 for a tie, NaN for none. Also verdicts of `compare_ensemble_members`, whose
            judgments are members without a position, so that both positions weigh 1/2.
        lengths: [prompt, judgment], characters. Ties in rating: the shortest is chosen, the longest rejected. Without
            lengths, the first.
        max_length: characters; 1100 in the paper's first iteration, 1000 in its second.
        scores: [prompt, judgment], the scores that the judgments gave, NaN if unknown; if passed, a pair must differ
            in them. The paper does not require this.

    Raises `InputError` for shapes that do not fit, and as the functions named do.

    Source: arXiv 2407.19594, Section 2.3; ridge, ties and the order of filters are not in it.
    """
    weights = position_weights(verdicts)
    wins = win_matrix(verdicts, weights)
    if wins.ndim != 3:
        raise_input_error(
            "verdicts", "an array over [prompt, judgment, judgment]", Verbatim(f"shape {wins.shape}"), "Give all axes."
        )
    if lengths is None and max_length is not None:
        raise_input_error("max_length", "None, as there are no lengths", max_length, "Pass the judgments' lengths.")
    compared = (wins.sum(axis=1) + wins.sum(axis=2)) > 0
    rated = bradley_terry(wins, ridge=ridge)
    ratings = np.where(compared, rated.ratings, np.nan)
    sizes = np.where(compared, 0.0, np.nan) if lengths is None else validate_scores(ratings, lengths)[1]
    pairs = select_pairs(np.round(ratings, DIGITS), sizes, rho=0.0)

    def of_pairs(values: NDArray[Any]) -> NDArray[Any]:
        """Values [side, prompt] of both judgments of each pair; arbitrary where there is no pair."""
        return np.take_along_axis(values, pairs, axis=1).T

    component, rejected_component = of_pairs(rated.components)
    reasons = {
        "not compared": compared.sum(axis=1) < 2,
        "equal ratings": pairs[:, 0] < 0,
        "not connected": component != rejected_component,
    }
    if scores is not None:
        judgment_scores = np.asarray(scores, dtype=np.float64)
        same_shape("scores", judgment_scores, "ratings", ratings)
        score, rejected_score = of_pairs(judgment_scores)
        reasons["equal scores"] = score == rejected_score
    if max_length is not None:
        reasons["too long"] = of_pairs(sizes)[0] > max_length
    skip_reason = np.select(list(reasons.values()), list(reasons), default="")
    chosen, rejected = np.where(skip_reason == "", pairs.T, -1)
    return JudgePairs(chosen, rejected, skip_reason, ratings, weights)
