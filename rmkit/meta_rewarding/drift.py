"""Drift: what each iteration's judgments and responses look like, and when that is a reason to warn or to stop."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.samples import is_first_occurrence
from rmkit.judges.base import Scale
from rmkit.metrics import agreement
from rmkit.metrics.agreement import score_array, verdict_array

TOP = 0.05  # of the scale below its end; judges that have learnt to flatter write 4.75 and 4.9 of 5 too


@dataclass(frozen=True)
class DriftMetrics:
    """What one iteration looks like; None where there is nothing to measure.

    score: mean score, as a share of the scale. top: share of scores in the scale's uppermost twentieth.
    length: mean characters of a response. distinct: share of responses that repeat no other to their prompt.
    first: share of the meta-judge's decided verdicts for the judgment shown first. higher: share of its decided
    verdicts between judgments of different score for the higher score. kl: mean log-ratio of the policy to the
    first one on the policy's responses, nats. agreement: of the judge with held-out labels, ties half.
    """

    score: float | None
    top: float | None
    length: float
    distinct: float
    first: float | None = None
    higher: float | None = None
    kl: float | None = None
    agreement: float | None = None


def drift_metrics(
    scores: ArrayLike,
    responses: Sequence[Sequence[str]],
    *,
    scale: Scale,
    battles: tuple[ArrayLike, ArrayLike] | None = None,
    log_ratios: ArrayLike | None = None,
    held_out: tuple[ArrayLike, ArrayLike] | None = None,
) -> DriftMetrics:
    """The `DriftMetrics` of an iteration.

    Args:
        scores: [prompt, response, judgment] on `scale`, NaN for none.
        responses: texts, [prompt][response].
        battles: the meta-judge's verdicts [prompt, judgment, judgment], as `select_judgments` takes them, and the
            scores [prompt, judgment] that these judgments gave.
        log_ratios: [response], log p(response) under the policy less that under the first one, in nats.
        held_out: the judge's verdicts [pair] on labelled pairs, and their labels [pair].

    Raises `InputError` for scores off the scale, other verdicts, no response, and shapes that do not fit.
    """
    given = score_array(scores, ("prompt", "response", "judgment"))
    given = (given[~np.isnan(given)] - scale.low) / (scale.high - scale.low)
    if len(given) and not (given.min() >= 0 and given.max() <= 1):
        raise_input_error(
            "scores", f"scores from {scale.low:g} to {scale.high:g}", Verbatim("others"), "Pass the judge's scale."
        )
    lengths = [len(text) for own in responses for text in own]
    if not lengths:
        raise_input_error("responses", "at least one", Verbatim("none"), "Look at what was sampled.")
    repeated = sum(int((~is_first_occurrence(own)).sum()) for own in responses if own)
    first, higher = (None, None) if battles is None else describe_battles(*battles)
    return DriftMetrics(
        score=float(given.mean()) if len(given) else None,
        top=float((given >= 1 - TOP).mean()) if len(given) else None,
        length=float(np.mean(lengths)),
        distinct=1 - repeated / len(lengths),
        first=first,
        higher=higher,
        kl=None if log_ratios is None else float(finite_array("log_ratios", log_ratios, ("response",)).mean()),
        agreement=None if held_out is None else agreement(*held_out).with_ties,
    )


def describe_battles(verdicts: ArrayLike, scores: ArrayLike) -> tuple[float | None, float | None]:
    """`first` and `higher` of `DriftMetrics`."""
    outcomes = verdict_array("verdicts", verdicts, ("prompt", "judgment", "judgment"))
    said = score_array(scores, ("prompt", "judgment"))
    if outcomes.shape != (*said.shape, said.shape[1]):
        raise_input_error(
            "scores of the battles",
            f"one per judgment, shape {outcomes.shape[:2]}",
            Verbatim(f"shape {said.shape}"),
            "Pass those of the judgments that were compared.",
        )
    gaps = said[:, :, None] - said[:, None, :]
    decided = np.abs(outcomes) == 1
    return share(outcomes[decided] == 1), share((outcomes == np.sign(gaps))[decided & (np.abs(gaps) > 0)])


def share(hits: NDArray[np.bool_]) -> float | None:
    """The mean, None without any."""
    return float(hits.mean()) if len(hits) else None


@dataclass
class Threshold:
    """Beyond `warn`, a warning; beyond `stop`, the end. None for never."""

    warn: float | None
    stop: float | None

    def __post_init__(self) -> None:
        if self.warn is not None and self.stop is not None and self.stop < self.warn:
            raise_input_error(
                "stop", f"no less than warn, {self.warn}", self.stop, "What stops is worse than what warns."
            )


def limit(warn: float | None, stop: float | None) -> Threshold:
    """A default of `DriftRules`."""
    return dataclasses.field(default_factory=lambda: Threshold(warn, stop))


@dataclass
class DriftRules:
    """How far figures may go before they are an alarm. Published figures: arXiv 2407.19594, Tables 1 to 5, Fig. 5.

    score: rise of the mean score since the first iteration, as a share of the scale; the paper's judge went from 4.1
        to 4.7 of 5 (0.12) in two iterations, and its authors call that saturation.
    top: share of scores at the top. Above 1/2 most responses can no longer be told apart by being better.
    position: |first - 1/2| of the meta-judge; 0.06 in the paper's first iteration, 0.18 in its second, the last.
    higher: share of verdicts for the higher score; 0.63, then 0.98, when it says no more than the scores do.
    length: relative change of length, either way, since the first iteration; 10 % is what length control is to hold.
        Self-Rewarding, without it, grew by 42 % and by 64 % in an iteration (1092, 1552, 2552 characters).
    length_step: the same since the iteration before.
    distinct: fall of the share of distinct responses since the first iteration; a policy that says one thing only
        gives no pairs. No published figure.
    kl: growth of the KL over the iteration before, as a ratio; a steady walk at most doubles it, 1 to 2 to 3.
    agreement: fall of the agreement with held-out labels since the first iteration; agreement_step since the one
        before: with people the paper's fell by 0.033 after its second iteration.
    """

    score: Threshold = limit(0.1, None)
    top: Threshold = limit(0.5, 0.9)
    position: Threshold = limit(0.15, 0.35)
    higher: Threshold = limit(0.95, None)
    length: Threshold = limit(0.1, 0.5)
    length_step: Threshold = limit(0.1, 0.4)
    distinct: Threshold = limit(0.2, 0.5)
    kl: Threshold = limit(3.0, None)
    agreement: Threshold = limit(0.05, 0.15)
    agreement_step: Threshold = limit(0.03, None)


class Alert(NamedTuple):
    """A limit that was passed: `rule` is its name in `DriftRules`."""

    level: Literal["warn", "stop"]
    rule: str
    text: str


def check_drift(history: Sequence[DriftMetrics], rules: DriftRules) -> list[Alert]:
    """The alarms of the last of the iterations in `history`, which are in order, beside the first and the one before.

    A figure that is None, in it or in what it is compared with, raises no alarm. Raises `InputError` without any.
    """
    if not history:
        raise_input_error("history", "at least one iteration", Verbatim("none"), "Describe the first one.")
    now, first, before = history[-1], history[0], history[-2] if len(history) > 1 else history[0]
    measured: dict[str, tuple[str, float | None]] = {
        "score": ("mean score, share of the scale gained", difference(now.score, first.score)),
        "top": ("share of scores at the top", now.top),
        "position": ("meta-judge's lean to a position", None if now.first is None else abs(now.first - 0.5)),
        "higher": ("meta-judge's verdicts for the higher score", now.higher),
        "length": ("change of length since the first iteration", abs(now.length / max(first.length, 1) - 1)),
        "length_step": ("change of length since the iteration before", abs(now.length / max(before.length, 1) - 1)),
        "distinct": ("share of distinct responses lost", first.distinct - now.distinct),
        "kl": (
            "growth of the KL over the iteration before",
            now.kl / before.kl if now.kl is not None and before.kl is not None and before.kl > 0 else None,
        ),
        "agreement": (
            "agreement with labels lost since the first iteration",
            difference(first.agreement, now.agreement),
        ),
        "agreement_step": (
            "agreement with labels lost since the iteration before",
            difference(before.agreement, now.agreement),
        ),
    }
    alarms = []
    for rule, (what, value) in measured.items():
        bounds: Threshold = getattr(rules, rule)
        levels: tuple[Literal["stop", "warn"], ...] = ("stop", "warn")
        for level in levels:
            bound = getattr(bounds, level)
            if value is not None and bound is not None and value > bound:
                alarms.append(Alert(level, rule, f"{what}: {value:.3g}, above {bound:g}"))
                break
    return alarms


def difference(now: float | None, then: float | None) -> float | None:
    """By how much a figure is above what it was; None where one of them is."""
    return None if now is None or then is None else now - then
