"""Drift monitor: metrics of each iteration's judgments and responses, and alerts where they pass a limit."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import open_stage
from rmkit.data.samples import is_first_occurrence
from rmkit.judges.base import Scale
from rmkit.judges.judged_samples import read_judged
from rmkit.meta_rewarding.config import DriftRules
from rmkit.meta_rewarding.meta_judging import read_meta_judgments, stack_verdicts
from rmkit.metrics.agreement import score_array, verdict_array

TOP = 0.05  # of the scale, below its maximum: inflated judges also write 4.75 and 4.9 of 5


@dataclasses.dataclass(frozen=True)
class DriftMetrics:
    """Metrics of one iteration; None where there is nothing to measure.

    score: mean score, as a fraction of the scale. top: fraction of scores in the top twentieth of the scale.
    length: mean characters of a response. distinct: fraction of responses that repeat no other to their prompt.
    first: fraction of the meta-judge's decided verdicts for the judgment shown first. higher: fraction of its decided
    verdicts, between judgments of different score, for the higher score. kl: mean log-ratio of the policy to the
    first policy on the policy's responses, nats. agreement: of the judge with held-out labels, ties counting half.
    """

    score: float | None
    top: float | None
    length: float
    distinct: float
    first: float | None = None
    higher: float | None = None
    kl: float | None = None
    agreement: float | None = None


def measure_drift(judgments: Path, meta_judgments: str | None, output_dir: Path, *, scale: Scale) -> DriftMetrics:
    """The drift metrics of a folder of `rmkit judge` and of one of meta-judgments, also kept in the record."""
    inputs: dict[str, str | Path] = {"judgments": judgments}
    if meta_judgments is not None:
        inputs["meta_judgments"] = meta_judgments
    with open_stage(output_dir, "drift", {"scale": list(scale)}, inputs) as stage:
        if not stage.done:
            judged = read_judged(judgments)
            rows = read_meta_judgments(meta_judgments) if meta_judgments else []
            metrics = drift_metrics(judged.scores, judged.contents, scale=scale,
                                    meta_judgments=stack_verdicts(rows) if rows else None)
            stage.record["metrics"] = dataclasses.asdict(metrics)
    return DriftMetrics(**stage.record["metrics"])


def drift_metrics(
    scores: ArrayLike, responses: Sequence[Sequence[str]], *, scale: Scale,
    meta_judgments: tuple[ArrayLike, ArrayLike] | None = None,
) -> DriftMetrics:
    """The `DriftMetrics` of an iteration's judgments, without `kl` and `agreement`.

    Args:
        scores: [prompt, response, judgment] on `scale`, NaN for none.
        responses: texts, [prompt][response].
        meta_judgments: the meta-judge's verdicts [prompt, judgment, judgment], as in `select_judgments`, and the scores
            [prompt, judgment] that these judgments gave.

    Raises `InputError` for scores off the scale, other verdicts, no response, and shapes that do not fit.
    """
    values = score_array(scores, ("prompt", "response", "judgment"))
    values = (values[~np.isnan(values)] - scale.low) / (scale.high - scale.low)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise_input_error(
            "scores", f"scores from {scale.low:g} to {scale.high:g}", Verbatim("others"), "Pass the judge's scale."
        )
    lengths = [len(text) for texts in responses for text in texts]
    if not lengths:
        raise_input_error("responses", "at least one", Verbatim("none"), "Look at what was sampled.")
    repeated = sum(int((~is_first_occurrence(texts)).sum()) for texts in responses if texts)
    first, higher = (None, None) if meta_judgments is None else meta_judge_bias(*meta_judgments)
    return DriftMetrics(
        score=float(values.mean()) if len(values) else None,
        top=float((values >= 1 - TOP).mean()) if len(values) else None,
        length=float(np.mean(lengths)),
        distinct=1 - repeated / len(lengths), first=first, higher=higher,
    )


def meta_judge_bias(verdicts: ArrayLike, scores: ArrayLike) -> tuple[float | None, float | None]:
    """`first` and `higher` of `DriftMetrics`."""
    outcomes = verdict_array("verdicts", verdicts, ("prompt", "judgment", "judgment"))
    values = score_array(scores, ("prompt", "judgment"))
    if outcomes.shape != (*values.shape, values.shape[1]):
        raise_input_error(
            "scores of the meta-judgments", f"one per judgment, shape {outcomes.shape[:2]}",
            Verbatim(f"shape {values.shape}"), "Pass those of the judgments that were compared.",
        )
    gaps = values[:, :, None] - values[:, None, :]
    decided = np.abs(outcomes) == 1
    return fraction(outcomes[decided] == 1), fraction((outcomes == np.sign(gaps))[decided & (np.abs(gaps) > 0)])


def fraction(hits: NDArray[np.bool_]) -> float | None:
    """The mean, None without any."""
    return float(hits.mean()) if len(hits) else None


class Alert(NamedTuple):
    """A limit that was passed; `severity` is "warn" or "stop", `rule` its key in `DriftRules`."""

    severity: str
    rule: str
    text: str


def check_drift(history: Sequence[DriftMetrics], rules: DriftRules) -> list[Alert]:
    """The alerts for the last iteration of `history`, compared with the first one and with the one before.

    A metric that is None, or is compared with None, gives no alert. Raises `InputError` for an empty history.
    """
    if not history:
        raise_input_error("history", "at least one iteration", Verbatim("none"), "Pass the first iteration's metrics.")
    now, first, before = (
        {name: np.nan if value is None else value for name, value in vars(metrics).items()}
        for metrics in (history[-1], history[0], history[-2:][0])
    )
    measured = {
        "score": ("rise of the mean score, fraction of the scale", now["score"] - first["score"]),
        "top": ("fraction of scores at the top", now["top"]),
        "position": ("meta-judge's position bias", abs(now["first"] - 0.5)),
        "higher": ("meta-judge's verdicts for the higher score", now["higher"]),
        "length": ("change of length since the first iteration", abs(now["length"] / max(first["length"], 1) - 1)),
        "length_step": ("change of length since the last iteration", abs(now["length"] / max(before["length"], 1) - 1)),
        "distinct": ("fall of the fraction of distinct responses", first["distinct"] - now["distinct"]),
        "kl": ("growth of the KL since the last iteration", now["kl"] / before["kl"] if before["kl"] > 0 else np.nan),
        "agreement": ("fall of label agreement since the first iteration", first["agreement"] - now["agreement"]),
        "agreement_step": ("fall of label agreement since the last iteration", before["agreement"] - now["agreement"]),
    }
    alerts = []
    for rule, (text, value) in measured.items():
        limits = getattr(rules, rule)
        for severity, limit in (("stop", limits.stop), ("warn", limits.warn)):
            if limit is not None and value > limit:
                alerts.append(Alert(severity, rule, f"{text}: {value:.3g}, above {limit:g}"))
                break
    return alerts
