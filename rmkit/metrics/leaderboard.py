"""Ratings of a list of battles with bootstrap intervals."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.agreement import verdict_array
from rmkit.metrics.battles import item_array, wins_from_list
from rmkit.metrics.bradley_terry import bradley_terry
from rmkit.metrics.significance import cluster_bootstrap, quantiles


class League(NamedTuple):
    """Rows estimate, low and high [3, player] of ratings in logits; of position and tie [3], or None."""

    ratings: NDArray[np.float64]
    position: NDArray[np.float64] | None
    tie: NDArray[np.float64] | None


def rate_league(
    first: ArrayLike,
    second: ArrayLike,
    verdicts: ArrayLike,
    *,
    players: int,
    ridge: float,
    seed: int,
    position: bool = False,
    tie: bool = False,
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    level: float = 0.95,
) -> League:
    """`bradley_terry` of one list of battles, with percentile bootstrap intervals.

    `first`, `second`, `verdicts` over [battle] as in `wins_from_list`; `groups` over [battle] names what is drawn
    together, such as the prompt (every battle of its own where not given). Ratings have mean zero in each resample,
    so that an interval is of a player's distance from the average player. Battles without a verdict are left out. A
    resample may lack what joins the players or bounds a rating, so take a positive ridge.

    Raises `InputError` as `wins_from_list`, `bradley_terry` and `bootstrap_interval` do.
    """
    outcomes = verdict_array("verdicts", verdicts, ("battle",))
    judged = ~np.isnan(outcomes)
    if not judged.any():
        raise_input_error(
            "verdicts", "at least one battle with a verdict", Verbatim("NaN throughout"), "Look at the judge's answers."
        )
    sides = (item_array(name, side, outcomes, players) for name, side in (("first", first), ("second", second)))
    kinds = np.array([*sides, outcomes])[:, judged]
    copies = np.ones(kinds.shape[1], dtype=np.int64)
    if groups is None:  # battles of one kind are all alike: it is enough to draw how many there are of each
        kinds, copies = np.unique(kinds, axis=1, return_counts=True)
        drawn_together = np.arange(len(copies))
    else:
        drawn_together = np.asarray(groups)
        if drawn_together.shape != judged.shape:
            raise_input_error(
                "groups",
                f"one name for each of {len(judged)} battles",
                Verbatim(f"shape {drawn_together.shape}"),
                "Pass all of them.",
            )
        drawn_together = drawn_together[judged]

    def fit(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ratings and terms [resample, player + term]."""
        battles = wins_from_list(*kinds, players=players, weights=weights[:, None])
        found = bradley_terry(battles, ridge=ridge, position=position, tie=tie)
        terms = [term[:, None] for term in (found.position, found.tie) if term is not None]
        return np.concatenate([found.ratings[:, 0], *terms], axis=1)

    tails = quantiles(level)
    drawn = cluster_bootstrap(
        fit, drawn_together, seed=seed, n_bootstrap=n_bootstrap, copies=copies if groups is None else None
    )
    rows = np.concatenate([fit(copies[None].astype(np.float64)), np.quantile(drawn, tails, axis=0)])
    terms = dict(zip([name for name, asked in (("position", position), ("tie", tie)) if asked], rows.T[players:],
                     strict=True))
    return League(rows[:, :players], terms.get("position"), terms.get("tie"))
