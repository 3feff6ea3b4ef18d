"""Metrics of a policy (response quality, distance from the first policy) and of its judges."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmkit.core.stage import open_stage
from rmkit.data.samples import is_first_occurrence
from rmkit.evaluation.policy_metrics import Values, gold_rewards, is_synthetic, load_policy_samples, measure_divergence
from rmkit.judges.judged_samples import JudgedSamples, read_judged
from rmkit.metrics import bootstrap_interval, pair_accuracy, prompt_correlation
from rmkit.metrics.accuracy import pair_correct
from rmkit.metrics.length_control import length_controlled_rate

Rows = Sequence[Mapping[str, Any]]


def evaluate_policy(
    responses: str, reference_responses: str, output_dir: str, *, policy: str, reference: str,
    judgments: Mapping[str, str], max_length: int, seed: int, trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Metrics of a policy's `responses` beside those of the reference policy (folders of `rmkit sample`).

    length: mean characters of a response. distinct: fraction of responses that repeat no other to their prompt.
    kl: mean log-ratio to the reference over the responses, nats; estimates the KL at temperature 1 and top_p 1.
    gold: mean gold reward of the `gold_rows` synthetic rows. win_rate: fraction of pairs of a response of the policy
    and one of the reference to the same prompt in which the policy's has the higher gold reward, ties 1/2. win_rate_lc:
    the same at equal lengths (`length_controlled_rate`). *_interval: 95 % bootstrap interval over prompts. Without
    synthetic rows, gold rewards and win rates are absent. For each judge, by name (`judgments`: folders of `rmkit
    judge` on the reference's responses): score_NAME, spearman_NAME and agreement_NAME (`measure_judge`).
    """
    settings = {"max_length": max_length, "seed": seed, "trust_remote_code": trust_remote_code}
    inputs = {"responses": responses, "reference_responses": reference_responses, "policy": policy,
              "reference": reference, **judgments}
    with open_stage(output_dir, "metrics", settings, inputs) as stage:
        if not stage.done:
            rows, reference_rows = load_policy_samples(responses), load_policy_samples(reference_responses)
            texts = [[response[-1]["content"] for response in row["responses"]] for row in rows]
            reference_gold = gold_rewards(reference_rows)
            metrics = stage.record["metrics"] = {
                "length": float(np.mean([len(text) for row in texts for text in row])),
                "distinct": float(np.concatenate([is_first_occurrence(row) for row in texts]).mean()),
                "kl": 0.0 if policy == reference else measure_divergence(
                    rows, policy, reference, max_length=max_length, trust_remote_code=trust_remote_code
                ),
                **compare_gold(rows, reference_rows, gold_rewards(rows), reference_gold, seed),
            }
            for name, folder in judgments.items():
                measured = measure_judge(read_judged(folder), reference_rows, reference_gold)
                metrics |= {f"{metric}_{name}": value for metric, value in measured.items()}
    return dict(stage.record["metrics"])


def compare_gold(rows: Rows, reference_rows: Rows, gold: Values, reference_gold: Values, seed: int) -> dict[str, Any]:
    """Gold rewards and win rates with intervals; empty where no prompt has gold rewards (NaN)."""
    references = {str(row["prompt"]): (row, rewards)
                  for row, rewards in zip(reference_rows, reference_gold, strict=True) if is_synthetic(rewards)}
    wins, differences, prompts = [], [], []
    for prompt, (row, rewards) in enumerate(zip(rows, gold, strict=True)):
        if str(row["prompt"]) not in references or not is_synthetic(rewards):
            continue
        reference_row, reference_rewards = references[str(row["prompt"])]
        lengths, reference_lengths = (np.array([len(response[-1]["content"]) for response in each["responses"]])
                                      for each in (row, reference_row))
        wins.append(pair_correct((rewards[:, None] - reference_rewards[None]).ravel()))
        differences.append((lengths[:, None] - reference_lengths[None]).ravel().astype(np.float64))
        prompts.append(np.full(len(wins[-1]), prompt))
    if not wins:
        return {}
    all_wins, all_differences, groups = map(np.concatenate, (wins, differences, prompts))
    controlled = length_controlled_rate(all_wins, all_differences, groups=groups, seed=seed)
    all_gold = np.concatenate(gold)
    owners = np.repeat(np.arange(len(gold)), [len(rewards) for rewards in gold])[~np.isnan(all_gold)]
    all_gold = all_gold[~np.isnan(all_gold)]
    return {
        "gold": float(all_gold.mean()), "gold_interval": mean_interval(all_gold, owners, seed),
        "gold_rows": sum(map(is_synthetic, gold)),
        "win_rate": float(all_wins.mean()), "win_rate_interval": mean_interval(all_wins, groups, seed),
        "win_rate_lc": controlled.rate, "win_rate_lc_interval": [controlled.low, controlled.high],
    }


def mean_interval(values: NDArray[np.float64], groups: NDArray[np.integer], seed: int) -> list[float] | None:
    """The bootstrap interval of a mean over groups; None for a single group."""
    if len(np.unique(groups)) < 2:
        return None
    interval = bootstrap_interval(lambda weights: weights @ values / weights.sum(axis=1), groups, seed=seed)
    return [float(interval.low), float(interval.high)]


def measure_judge(judged: JudgedSamples, rows: Rows, gold: Values) -> dict[str, Any]:
    """A judge's mean score and, of its mean scores on synthetic rows, how well they order the responses by gold reward.

    spearman: with the gold reward within a prompt, averaged over prompts. agreement: accuracy on pairs of a prompt's
    responses with different gold rewards.
    """
    metrics: dict[str, Any] = {"score": None if np.isnan(judged.scores).all() else float(np.nanmean(judged.scores))}
    by_prompt = {str(row["prompt"]): rewards.tolist() for row, rewards in zip(rows, gold, strict=True)}
    rewards = judged.pad([by_prompt[str(prompt)] for prompt in judged.prompts])
    if np.isnan(rewards).all():
        return metrics
    scores = judged.average()
    first, second = np.triu_indices(rewards.shape[1], 1)
    gaps, labels = ((array[:, first] - array[:, second]).ravel() for array in (scores, rewards))
    decided = ~np.isnan(gaps) & ~np.isnan(labels) & (labels != 0)
    metrics["spearman"] = prompt_correlation(scores, rewards).mean
    accuracy = pair_accuracy(gaps[decided] * np.sign(labels[decided])).accuracy if decided.any() else None
    return {**metrics, "agreement": accuracy}
