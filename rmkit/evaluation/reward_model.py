"""What a reward model is worth on labelled pairs: accuracy, calibration, reward statistics and length bias."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics.accuracy import pair_accuracy, pair_correct
from rmkit.metrics.calibration import brier_score, calibration_error, log_loss
from rmkit.metrics.correlation import rank_correlation
from rmkit.metrics.significance import bootstrap_interval

DECILES = 10
MATCHED = 0.1  # lengths "match" when they differ by at most this share of the longer one


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
    """Everything `rmkit evaluate` reports about one model on one set of pairs, ready for JSON.

    All arguments are over [pair]: rewards; a prompt id, by which the bootstrap groups; a source name; lengths of
    the two responses in characters; and, where an ensemble voted on these pairs, its strength. Every number in the
    answer is finite; what is undefined (an interval from one prompt, a correlation with a constant, an accuracy
    over no pair) is None.

        pairs, accuracy (ties half), accuracy_low, accuracy_high (95 %, grouped by prompt), tie_rate
        log_loss, brier, ece          of sigmoid(gap)
        rewards                       chosen, rejected, gap: mean, std (population), min, max
        by_strength                   None, or up to ten equal groups from weakest to strongest
        by_confidence                 bins of equal width in sigmoid(|gap|): mean confidence, pairs, accuracy, tie_rate
        by_source                     source name -> pairs, accuracy, tie_rate
        length                        chosen_longer: accuracy of "the longer wins", equal lengths counting half;
                                      model_prefers_longer: over pairs of different length, a tied gap counting half;
                                      gap_correlation: Spearman's, of gap and length difference;
                                      matched: accuracy where lengths differ by at most 10 % of the longer

    The pairs are to be unrepaired ones: a repaired label would measure agreement with the ensemble.
    Raises `InputError` for arrays that are not all over the same pairs, NaN, and negative lengths.
    """
    chosen = finite_array("rewards_chosen", rewards_chosen, ("pair",))
    rejected = finite_array("rewards_rejected", rewards_rejected, ("pair",))
    same_shape("rewards_rejected", rejected, "rewards_chosen", chosen)
    prompt_of_pair, source_of_pair = names("prompts", prompts, chosen), names("sources", sources, chosen)
    gaps = finite_array("rewards_chosen - rewards_rejected", chosen - rejected, ("pair",))
    low, high = accuracy_interval(gaps, prompt_of_pair, seed, n_bootstrap)
    return {
        **accuracy_of(gaps),
        "accuracy_low": low,
        "accuracy_high": high,
        "log_loss": log_loss(gaps),
        "brier": brier_score(gaps),
        "ece": calibration_error(gaps),
        "rewards": {"chosen": describe(chosen), "rejected": describe(rejected), "gap": describe(gaps)},
        "by_strength": None if strength is None else accuracy_by_strength(gaps, strength),
        "by_confidence": accuracy_by_confidence(gaps),
        "by_source": {
            str(source): accuracy_of(gaps[source_of_pair == source]) for source in np.unique(source_of_pair)
        },
        "length": length_bias(gaps, chosen_lengths, rejected_lengths),
    }


def names(argument: str, values: ArrayLike, like: NDArray[np.float64]) -> NDArray[Any]:
    """Group names over [pair], one for each pair."""
    array = np.asarray(values)
    if array.shape != like.shape:
        raise_input_error(
            argument, f"one name per pair, shape {like.shape}", Verbatim(f"shape {array.shape}"), "Pass all of them."
        )
    return array


def accuracy_of(gaps: NDArray[np.float64]) -> dict[str, Any]:
    """Number of pairs, accuracy and tie rate of a part of the pairs, which may be empty."""
    if not len(gaps):
        return {"pairs": 0, "accuracy": None, "tie_rate": None}
    return {"pairs": len(gaps), **pair_accuracy(gaps)._asdict()}


def accuracy_interval(
    gaps: NDArray[np.float64], prompts: NDArray[Any], seed: int, n_bootstrap: int
) -> tuple[float | None, float | None]:
    """95 % bootstrap interval of accuracy, or None twice where all pairs share one prompt."""
    if len(np.unique(prompts)) < 2:
        return None, None
    right = pair_correct(gaps)
    return bootstrap_interval(
        lambda weights: weights @ right / weights.sum(axis=1), prompts, seed=seed, n_bootstrap=n_bootstrap
    )


def describe(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean, population standard deviation, minimum and maximum."""
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def accuracy_by_strength(gaps: NDArray[np.float64], strength: ArrayLike) -> list[dict[str, Any]]:
    """Accuracy in up to ten equal groups of pairs, sorted by strength from the most doubted up."""
    means = finite_array("strength", strength, ("pair",))
    same_shape("strength", means, "rewards_chosen", gaps)
    groups = np.array_split(np.argsort(means, kind="stable"), min(DECILES, len(means)))
    return [
        {"strength_low": float(means[group[0]]), "strength_high": float(means[group[-1]]), **accuracy_of(gaps[group])}
        for group in groups
    ]


def accuracy_by_confidence(gaps: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The calibration curve: accuracy in ten bins of confidence sigmoid(|gap|), those without a pair left out."""
    confidence = expit(np.abs(gaps))
    bins = np.minimum((2 * DECILES * (confidence - 0.5)).astype(int), DECILES - 1)
    return [
        {"confidence": float(confidence[bins == place].mean()), **accuracy_of(gaps[bins == place])}
        for place in np.unique(bins)
    ]


def length_bias(
    gaps: NDArray[np.float64], chosen_lengths: ArrayLike, rejected_lengths: ArrayLike
) -> dict[str, Any]:
    """How far the labels, and the model, follow length, and what the model does where length tells nothing."""
    chosen = finite_array("chosen_lengths", chosen_lengths, ("pair",))
    rejected = finite_array("rejected_lengths", rejected_lengths, ("pair",))
    same_shape("chosen_lengths", chosen, "rewards_chosen", gaps)
    same_shape("rejected_lengths", rejected, "rewards_chosen", gaps)
    if min(chosen.min(), rejected.min()) < 0:
        raise_input_error(
            "lengths", "numbers of characters", Verbatim("a negative one"), "Count the characters of each response."
        )
    difference = chosen - rejected
    apart = difference != 0
    matched = np.abs(difference) <= MATCHED * np.maximum(chosen, rejected)
    defined = np.ptp(gaps) > 0 and np.ptp(difference) > 0
    return {
        "chosen_longer": pair_accuracy(difference).accuracy,
        "model_prefers_longer": accuracy_of(gaps[apart] * np.sign(difference[apart]))["accuracy"],
        "gap_correlation": rank_correlation(gaps, difference) if defined else None,
        "matched": accuracy_of(gaps[matched]),
    }
