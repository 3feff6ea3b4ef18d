"""Bradley-Terry (Elo) ratings by maximum likelihood, for one league or tens of thousands of small ones in one call."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.battles import Battles
from rmkit.metrics.bradley_terry_terms import fit_with_terms
from rmkit.metrics.newton import BLOCK, fit_ratings

ELO = 400 / math.log(10)  # points per logit


@dataclass(frozen=True)
class Ratings:
    """Ratings in logits, and what the battles say of them. Leading axes are those of the battles.

    ratings: [.., player], with mean zero over each component.
    components: [.., player], the first of the players whom battles join, in any direction, to this one; between
        components ratings say nothing.
    classes: [.., player], the first of the players to whom wins lead from this one and back. Differences within a
        class are the battles' own; between classes of one component their sign is, and their size the ridge's.
    position: what being shown first adds, in logits; None unless asked for.
    tie: log of Davidson's tie weight; None unless asked for.
    separable: whether battles tell position from ratings; where not, the ridge divides what they share. None unless
        position was asked for.
    """

    ratings: NDArray[np.float64]
    components: NDArray[np.intp]
    classes: NDArray[np.intp]
    position: NDArray[np.float64] | None = None
    tie: NDArray[np.float64] | None = None
    separable: NDArray[np.bool_] | None = None

    @property
    def identified(self) -> NDArray[np.bool_] | np.bool_:
        """Over [..]: whether all players are of one class, so that no rating rests on the ridge."""
        return np.logical_not(self.classes.any(axis=-1))

    def elo(self, mean: float = 1000.0) -> NDArray[np.float64]:
        """Ratings on the Elo scale, 400 points for odds of ten to one, with this mean."""
        return mean + ELO * self.ratings


def bradley_terry(
    battles: ArrayLike | Battles, *, ridge: float, position: bool = False, tie: bool = False
) -> Ratings:
    """Ratings e that maximise the likelihood of the battles, less ridge / 2 times the parameters' squares.

        P(m beats n) = sigmoid(e_m - e_n)                           without terms; a tie is half a win for both
        P(first), P(tie), P(second)  ~  exp(u / 2), exp(t), exp(-u / 2),  u = e_first - e_second + p

    Args:
        battles: weights B over [.., player, player] with which the row beat the column, ties as half a win in both
            places, or `Battles`, which also say who was shown first and which were ties (needed for the terms).
            Missing battles weigh 0; every prompt along the leading axes is a league of its own.
        ridge: not negative. Needed where a player won or lost everything; it draws ratings towards zero, and with
            few battles noticeably so: 0.01 is small beside a few dozen battles a player.
        position: fit p. It is one number for all prompts along axis -3, and its own for each place on axes before.
        tie: fit t, likewise shared (Davidson's model; with p, Davidson and Beaver's, both positions alike).

    Without a ridge, one-sided battles are refused: their ratings are infinite. Raises `InputError` for that, for
    negative weights, NaN, wrong shapes, battles of a player with itself, terms for a plain matrix, weights too large
    for arithmetic or too far above the ridge, and without a ridge also for terms that battles leave open or drive to
    infinity.

    Source: arXiv 2407.19594, Section 2.3 (maximum-likelihood Elo; no ridge there, so one-sided battles diverge);
    Davidson 1970, On Extending the Bradley-Terry Model to Accommodate Ties; Davidson and Beaver 1977, with tie weight
    nu = exp(t - p / 2), so that t does not depend on position.
    """
    if not 0 <= ridge < math.inf:
        raise_input_error("ridge", "a number that is not negative", ridge, "Take 0.01.")
    told = Battles(*(weight_array(part) for part in battles)) if isinstance(battles, Battles) else None
    if (position or tie) and told is None:
        raise_input_error(
            "battles",
            "`Battles`, where terms are asked for",
            Verbatim(type(battles).__name__),
            "Use count_battles or count_verdicts: a matrix of wins no longer knows positions and ties.",
        )
    wins = weight_array(battles) if told is None else told.matrix()
    *lead, players, _ = wins.shape
    shape = (*lead, players)
    ratings, components, classes = rate(wins.reshape(-1, players, players), ridge, fit=not (position or tie))
    terms: dict[str, NDArray[Any]] = {}
    if told is not None and (position or tie):
        split = (-1, lead[-1] if lead else 1, players)
        if not tie:
            told = Battles(told.first_wins + told.ties / 2, 0 * told.ties, told.second_wins + told.ties / 2)
        found = fit_with_terms(Battles(*(part.reshape(*split, players) for part in told)), components.reshape(split),
                               ridge, position=position, tie=tie)
        ratings = found.ratings
        if position:
            terms |= {"position": found.position.reshape(lead[:-1]), "separable": found.separable.reshape(lead[:-1])}
        if tie:
            terms["tie"] = found.tie.reshape(lead[:-1])
    if not np.isfinite(ratings).all():
        raise_input_error(
            "battles", "weights that can be added up", Verbatim("an overflow"), "Divide all of them by their largest."
        )
    return Ratings(ratings.reshape(shape), components.reshape(shape), classes.reshape(shape), **terms)


def rate(
    wins: NDArray[np.float64], ridge: float, *, fit: bool
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Ratings without terms (zeros unless `fit`), components and classes, over [prompt, player], in blocks."""
    ratings = np.zeros(wins.shape[:2])
    components, classes = (np.empty(wins.shape[:2], dtype=np.intp) for _ in range(2))
    for start in range(0, len(wins), BLOCK):
        part = slice(start, start + BLOCK)
        block = np.ascontiguousarray(wins[part].transpose(1, 2, 0))
        joined, ranked = strong_components(block)
        if not ridge and (joined != ranked).any():
            lost = int(np.flatnonzero((joined != ranked).any(axis=0))[0])
            raise_input_error(
                "ridge",
                "a positive number, as battles are one-sided",
                Verbatim(f"0, with prompt {start + lost} among others"),
                "Take 0.01: ratings would be infinite.",
            )
        components[part], classes[part] = joined.T, ranked.T
        if fit:
            ratings[part] = fit_ratings(block, joined, ridge).T
    return ratings, components, classes


def weight_array(values: ArrayLike | Battles) -> NDArray[np.float64]:
    """Battle weights as float64 over [.., player, player], finite, none negative, none on the diagonal."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or 0 in array.shape:
        raise_input_error(
            "battles", "a filled array over [.., player, player]", Verbatim(f"shape {array.shape}"), "Check its axes."
        )
    if not (array.min() >= 0 and array.max() < np.inf):
        raise_input_error(
            "battles",
            "finite weights, none negative",
            Verbatim(f"{array.min():g} to {array.max():g}"),
            "Weigh a missing battle 0.",
        )
    if np.diagonal(array, axis1=-2, axis2=-1).any():
        raise_input_error(
            "battles", "zeros on the diagonal", Verbatim("a player against itself"), "Leave such battles out."
        )
    return array


def strong_components(wins: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Components and classes of players, over [player, prompt], from wins over [winner, loser, prompt].

    Both are named by their first player. Players of one component are joined by battles, in any direction; players
    of one class by wins that lead from each to each other, which is when battles alone bound their difference.

    Source: Ford, Solution of a Ranking Problem from Binary Comparisons (1957); closure by Warshall's algorithm.
    """
    beats = transitive_closure(wins > 0)
    classes = name_components(beats & beats.swapaxes(0, 1))
    torn = np.flatnonzero(classes.any(axis=0))
    components = np.zeros_like(classes)
    if len(torn):
        met = wins[:, :, torn] > 0
        components[:, torn] = name_components(transitive_closure(met | met.swapaxes(0, 1)))
    return components, classes


def transitive_closure(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Who can be reached from whom along links, oneself included; links are overwritten."""
    for player in range(len(links)):
        links[player, player] = True
        links |= links[:, player, None] & links[player]
    return links


def name_components(same: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The first player of each one's part, from an equivalence over [player, player, prompt]."""
    names = np.zeros(same.shape[1:], dtype=np.intp)
    for player in range(len(same) - 1, 0, -1):
        names[same[player]] = player
    names[same[0]] = 0
    return names
