"""Measuring: how good a policy's responses are, how far it has gone, and how well its judge judges."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmkit.core.legacy_config import as_dict
from rmkit.core.stage import open_stage
from rmkit.data.samples import is_first_occurrence
from rmkit.evaluation.policy_metrics import Values, gold_rewards, is_synthetic, load_policy_samples, measure_divergence
from rmkit.judges.results import JudgedSamples, read_judged
from rmkit.metrics import bootstrap_interval, pair_accuracy, prompt_correlation
from rmkit.metrics.accuracy import pair_correct
from rmkit.metrics.length_control import length_controlled_rate


@dataclass(kw_only=True)
class MetricsConfig:
    """Measure a policy by its `responses` (a folder of `rmkit sample`) beside those of the `reference`.

    `judges`: folders in which its judges, by name, judged the reference's responses. Rows with the gold world's
    `request` have gold rewards, and what is gold is measured on them; where there are none, it is left out.
    """

    responses: str
    reference_responses: str
    policy: str
    reference: str
    output_dir: str
    judges: dict[str, str]
    max_length: int = 2048
    seed: int = 0
    trust_remote_code: bool = False


def measure_iteration(config: MetricsConfig) -> dict[str, Any]:
    """The figures, which also stand in the record of the stage's folder.

    length: mean characters of a response; distinct: share of responses that repeat no other to their prompt; kl: mean
    log-ratio to the reference over the responses, nats, which of samples at temperature 1 and top_p 1 estimates the
    divergence. gold: mean gold reward of the `gold_rows` rows that have one, with its interval by prompts. win_rate:
    share of pairs of a response of the policy and one of the reference to a prompt in which the policy's has more gold,
    ties half; win_rate_lc: the same at equal lengths (`length_controlled_rate`); both with intervals. For each judge,
    of its mean scores on the reference's responses: spearman with gold within prompts, averaged; agreement with gold on
    the order of two.
    """
    inputs = {"responses": config.responses, "reference_responses": config.reference_responses,
              "policy": config.policy, "reference": config.reference, **config.judges}
    with open_stage(config.output_dir, "figures", as_dict(config), inputs) as stage:
        if not stage.done:
            rows, reference = (load_policy_samples(folder) for folder in (config.responses, config.reference_responses))
            texts = [[response[-1]["content"] for response in row["responses"]] for row in rows]
            first = np.concatenate([is_first_occurrence(own) for own in texts])
            gold, theirs = gold_rewards(rows), gold_rewards(reference)
            stage.record["figures"] = {
                "length": float(np.mean([len(text) for own in texts for text in own])),
                "distinct": float(first.mean()),
                "kl": 0.0 if config.policy == config.reference else measure_divergence(
                    rows, config.policy, config.reference, max_length=config.max_length,
                    trust_remote_code=config.trust_remote_code,
                ),
                **compare(rows, reference, gold, theirs, config.seed),
                **{f"{figure}_{name}": value for name, folder in config.judges.items()
                   for figure, value in measure_judge(read_judged(folder), reference, theirs).items()},
            }
    return dict(stage.record["figures"])


def compare(
    rows: list[dict[str, Any]], reference: list[dict[str, Any]], gold: Values, theirs: Values, seed: int
) -> dict[str, Any]:
    """Gold rewards and win rates, with 95 % intervals by prompts; nothing where no prompt has gold rewards (NaN)."""
    known: dict[str, Any] = {str(row["prompt"]): (row, value) for row, value in zip(reference, theirs, strict=True)
                             if is_synthetic(value)}
    preferences, differences, prompts = [], [], []
    for place, (row, own) in enumerate(zip(rows, gold, strict=True)):
        if str(row["prompt"]) not in known or not is_synthetic(own):
            continue
        other, values = known[str(row["prompt"])]
        lengths, others = (np.array([len(one[-1]["content"]) for one in each["responses"]]) for each in (row, other))
        preferences.append(pair_correct((own[:, None] - values[None]).ravel()))
        differences.append((lengths[:, None] - others[None]).ravel().astype(np.float64))
        prompts.append(np.full(len(preferences[-1]), place))
    if not preferences:
        return {}
    wins, apart, groups = map(np.concatenate, (preferences, differences, prompts))
    controlled = length_controlled_rate(wins, apart, groups=groups, seed=seed)
    flat = np.concatenate(gold)
    owners = np.repeat(np.arange(len(gold)), [len(own) for own in gold])
    flat, owners = flat[~np.isnan(flat)], owners[~np.isnan(flat)]
    return {
        "gold": float(flat.mean()), "gold_interval": find_interval(flat, owners, seed),
        "gold_rows": sum(map(is_synthetic, gold)),
        "win_rate": float(wins.mean()), "win_rate_interval": find_interval(wins, groups, seed),
        "win_rate_lc": controlled.rate, "win_rate_lc_interval": [controlled.low, controlled.high],
    }


def find_interval(values: NDArray[np.float64], groups: NDArray[np.integer], seed: int) -> list[float] | None:
    """The bootstrap interval of a mean; None for a single group."""
    if len(np.unique(groups)) < 2:
        return None
    found = bootstrap_interval(lambda weights: weights @ values / weights.sum(axis=1), groups, seed=seed)
    return [float(found.low), float(found.high)]


def measure_judge(judged: JudgedSamples, rows: list[dict[str, Any]], gold: Values) -> dict[str, Any]:
    """A judge's mean score, and where there is gold, how it orders responses."""
    figures: dict[str, Any] = {
        "score": None if np.isnan(judged.scores).all() else float(np.nanmean(judged.scores)),
    }
    truth = {str(row["prompt"]): value.tolist() for row, value in zip(rows, gold, strict=True)}
    values = judged.spread([truth[str(prompt)] for prompt in judged.prompts])
    if np.isnan(values).all():
        return figures
    scores = judged.average()
    one, other = np.triu_indices(values.shape[1], 1)
    gaps, labels = ((array[:, one] - array[:, other]).ravel() for array in (scores, values))
    told = ~np.isnan(gaps) & ~np.isnan(labels) & (labels != 0)
    figures["spearman"] = prompt_correlation(scores, values).mean
    figures["agreement"] = pair_accuracy(gaps[told] * np.sign(labels[told])).accuracy if told.any() else None
    return figures
