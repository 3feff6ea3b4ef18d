"""Disputes: the response on which a judge's own judgments differ most, where there is most to learn about judging."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.checks import Seen, refuse


def score_variance(scores: ArrayLike) -> NDArray[np.float64]:
    """Population variance of each response's scores, over [.., response], from scores over [.., response, judgment].

    NaN for a judgment without a score, which is left out; a response with fewer than two scores has none either.
    Raises `InputError` for infinite scores, and where there is no axis of judgments.

    Source: arXiv 2407.19594, Section 2.3, which does not say whether it divides by N or N - 1.
    """
    array = np.asarray(scores, dtype=np.float64)
    if not array.ndim or 0 in array.shape or np.isinf(array).any():
        refuse("scores", "numbers or NaN over [.., response, judgment]", Seen(f"shape {array.shape}"), "Check them.")
    known = ~np.isnan(array)
    count = known.sum(axis=-1, keepdims=True)
    total = np.where(known, array, 0.0).sum(axis=-1, keepdims=True)
    squares = np.where(known, np.square(array - total / np.maximum(count, 1)), 0.0).sum(axis=-1)
    return np.where(count[..., 0] > 1, squares / np.maximum(count[..., 0], 1), np.nan)


def find_disputed(scores: ArrayLike, *, seed: int) -> int | None:
    """Which of a prompt's responses has the highest variance of `scores` [response, judgment], NaN for no score.

    Equal variances (to nine digits) are drawn between under `seed`; None where no response has two scores.
    Raises `InputError` as `score_variance` does.

    Source: arXiv 2407.19594, Section 2.3: where the judge is least certain, its judgments are put against each other.
    """
    variance = np.round(score_variance(scores), 9)
    if np.isnan(variance).all():
        return None
    return int(np.random.default_rng(seed).choice(np.flatnonzero(variance == np.nanmax(variance))))
