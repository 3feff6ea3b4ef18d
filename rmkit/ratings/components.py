"""Which players' ratings battles can compare at all."""

import numpy as np
from numpy.typing import NDArray


def find_parts(wins: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Components and classes of players, over [player, prompt], from wins over [winner, loser, prompt].

    Both are named by their first player. Players of one component are joined by battles, in any direction; players
    of one class by wins that lead from each to each other, which is when battles alone bound their difference.

    Source: Ford, Solution of a Ranking Problem from Binary Comparisons (1957); closure by Warshall's algorithm.
    """
    beats = close(wins > 0)
    classes = name_parts(beats & beats.swapaxes(0, 1))
    torn = np.flatnonzero(classes.any(axis=0))
    components = np.zeros_like(classes)
    if len(torn):
        met = wins[:, :, torn] > 0
        components[:, torn] = name_parts(close(met | met.swapaxes(0, 1)))
    return components, classes


def close(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Who can be reached from whom along links, oneself included; links are overwritten."""
    for player in range(len(links)):
        links[player, player] = True
        links |= links[:, player, None] & links[player]
    return links


def name_parts(same: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The first player of each one's part, from an equivalence over [player, player, prompt]."""
    names = np.zeros(same.shape[1:], dtype=np.intp)
    for player in range(len(same) - 1, 0, -1):
        names[same[player]] = player
    names[same[0]] = 0
    return names
