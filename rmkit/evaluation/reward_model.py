"""Metrics of a reward model on labelled pairs: accuracy, calibration, reward statistics and length bias."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.accuracy import pair_accuracy, pair_correct
from rmkit.metrics.calibration import bin_indices, brier_score, calibration_error, log_loss
from rmkit.metrics.correlation import rank_correlation
from rmkit.metrics.significance import bootstrap_interval

DECILES = 10
MATCHED = 0.1  # lengths match when they differ by at most this share of the longer one


def evaluate_pairs(
    rewards_chosen: ArrayLike,
    rewards_rejected: ArrayLike,
    *,
    prompts: ArrayLike,
    sources: ArrayLike,
    chosen_lengths: ArrayLike,
    rejected_lengths: ArrayLike,
    strength: ArrayLike | None = None,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> dict[str, Any]:
    """Metrics of one reward model on one set of unrepaired pairs, as `rmkit evaluate` reports them.

    Args:
        rewards_chosen, rewards_rejected: [pair], reward units.
        prompts: [pair], a prompt's name; the bootstrap draws whole prompts.
        sources: [pair], a source's name.
        chosen_lengths, rejected_lengths: [pair], characters.
        strength: [pair], an ensemble's preference strength, reward units.
        seed, n_bootstrap: of the bootstrap interval of accuracy.

    Returns a dict for JSON. Every number is finite; what is undefined (an interval from one prompt, a correlation with
    a constant, an accuracy over no pair) is None.

        pairs, accuracy, tie_rate     accuracy counts ties half
        accuracy_low, accuracy_high   95 % bootstrap interval
        log_loss, brier, ece          of sigmoid(gap)
        rewards                       chosen, rejected, gap: mean, std (population), min, max
        by_strength                   None, or up to ten equal groups from weakest to strongest
        by_confidence                 equal bins of sigmoid(|gap|): mean confidence, pairs, accuracy, tie_rate
        by_source                     source name -> pairs, accuracy, tie_rate
        length                        chosen_longer: accuracy of "the longer wins", equal lengths counting half;
                                      model_prefers_longer: over pairs of different length, a tied gap counting half;
                                      gap_correlation: Spearman's, of gap and length difference;
                                      matched: accuracy where lengths differ by at most 10 % of the longer

    Raises `InputError` for arrays that are not over the same pairs, NaN, and negative lengths. Repaired labels would
    measure agreement with the ensemble that repaired them.
    """
    chosen = finite_array("rewards_chosen", rewards_chosen, ("pair",))
    rejected = finite_array("rewards_rejected", rewards_rejected, ("pair",))
    prompt_of_pair, source_of_pair = np.asarray(prompts), np.asarray(sources)
    for name, array in (("rewards_rejected", rejected), ("prompts", prompt_of_pair), ("sources", source_of_pair)):
        same_shape(name, array, "rewards_chosen", chosen)
    gaps = finite_array("rewards_chosen - rewards_rejected", chosen - rejected, ("pair",))
    low, high = accuracy_interval(gaps, prompt_of_pair, seed, n_bootstrap)
    return {
        **accuracy_and_ties(gaps),
        "accuracy_low": low,
        "accuracy_high": high,
        "log_loss": log_loss(gaps),
        "brier": brier_score(gaps),
        "ece": calibration_error(gaps),
        "rewards": {
            name: {stat: float(getattr(values, stat)()) for stat in ("mean", "std", "min", "max")}
            for name, values in (("chosen", chosen), ("rejected", rejected), ("gap", gaps))
        },
        "by_strength": None if strength is None else accuracy_by_strength(gaps, strength),
        "by_confidence": accuracy_by_confidence(gaps),
        "by_source": {
            str(source): accuracy_and_ties(gaps[source_of_pair == source]) for source in np.unique(source_of_pair)
        },
        "length": measure_length_bias(gaps, chosen_lengths, rejected_lengths),
    }


def accuracy_and_ties(gaps: NDArray[np.float64]) -> dict[str, Any]:
    """Number of pairs, accuracy and tie rate; None where there are no pairs."""
    if not len(gaps):
        return {"pairs": 0, "accuracy": None, "tie_rate": None}
    return {"pairs": len(gaps), **pair_accuracy(gaps)._asdict()}


def accuracy_interval(
    gaps: NDArray[np.float64], prompts: NDArray[Any], seed: int, n_bootstrap: int
) -> tuple[float | None, float | None]:
    """95 % bootstrap interval of accuracy; None where all pairs share one prompt."""
    if len(np.unique(prompts)) < 2:
        return None, None
    correct = pair_correct(gaps)
    return bootstrap_interval(
        lambda weights: weights @ correct / weights.sum(axis=1), prompts, seed=seed, n_bootstrap=n_bootstrap
    )


def accuracy_by_strength(gaps: NDArray[np.float64], strength: ArrayLike) -> list[dict[str, Any]]:
    """Accuracy in up to ten equal groups of pairs, sorted by strength."""
    means = finite_array("strength", strength, ("pair",))
    same_shape("strength", means, "rewards_chosen", gaps)
    groups = np.array_split(np.argsort(means, kind="stable"), min(DECILES, len(means)))
    return [
        {"strength_low": float(means[group[0]]), "strength_high": float(means[group[-1]]),
         **accuracy_and_ties(gaps[group])}
        for group in groups
    ]


def accuracy_by_confidence(gaps: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The calibration curve: accuracy in ten bins of confidence sigmoid(|gap|), without empty bins."""
    confidence = expit(np.abs(gaps))
    bins = bin_indices(confidence, DECILES)
    return [
        {"confidence": float(confidence[bins == index].mean()), **accuracy_and_ties(gaps[bins == index])}
        for index in np.unique(bins)
    ]


def measure_length_bias(
    gaps: NDArray[np.float64], chosen_lengths: ArrayLike, rejected_lengths: ArrayLike
) -> dict[str, Any]:
    """How far labels and model follow length, and accuracy at matched length; see `evaluate_pairs`."""
    chosen = finite_array("chosen_lengths", chosen_lengths, ("pair",))
    rejected = finite_array("rejected_lengths", rejected_lengths, ("pair",))
    same_shape("chosen_lengths", chosen, "rewards_chosen", gaps)
    same_shape("rejected_lengths", rejected, "rewards_chosen", gaps)
    if min(chosen.min(), rejected.min()) < 0:
        raise_input_error(
            "lengths", "numbers of characters", Verbatim("a negative one"), "Count the characters of each response."
        )
    difference = chosen - rejected
    unequal = difference != 0
    matched = np.abs(difference) <= MATCHED * np.maximum(chosen, rejected)
    defined = np.ptp(gaps) > 0 and np.ptp(difference) > 0
    return {
        "chosen_longer": pair_accuracy(difference).accuracy,
        "model_prefers_longer": accuracy_and_ties(gaps[unequal] * np.sign(difference[unequal]))["accuracy"],
        "gap_correlation": rank_correlation(gaps, difference) if defined else None,
        "matched": accuracy_and_ties(gaps[matched]),
    }
