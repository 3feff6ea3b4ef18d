"""Metrics of a policy and its reward model on the policy's responses; with gold rewards on synthetic data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import open_stage
from rmkit.data.samples import SAMPLES
from rmkit.data.synthetic import gold_reward
from rmkit.data.synthetic.dataset import read_request
from rmkit.data.token_batches import MAX_TOKENS
from rmkit.generation import load_generator
from rmkit.metrics.accuracy import pair_accuracy, pair_correct
from rmkit.models.log_probs import measure_log_probs
from rmkit.models.reward_model import load_tokenizer
from rmkit.models.scoring import load_scorer, score_responses

Rows = Sequence[Mapping[str, Any]]
Values = list[NDArray[np.float64]]  # [response], by prompt


def measure_policy(
    samples: str, reference_samples: str, *, policy: str, reference: str, reward_model: str, output_dir: str,
    max_length: int = 1024, max_tokens_per_batch: int = MAX_TOKENS, trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Metrics on the `samples` of `policy` (a folder of `rmkit sample`), also kept in the record of `output_dir`.

    `reference_samples` are the reference policy's responses to the same prompts, as many.

    reward: mean reward. spread: root mean square of the differences between two different responses to a prompt,
    reward units. kl: mean log-ratio of policy to reference over the policy's responses, nats; it estimates the
    divergence for samples at temperature 1 and top_p 1. length: mean tokens of a response. duplicates: share of
    responses that repeat an earlier one to their prompt. On the `gold_rows` rows with a `request` of the synthetic
    data: accuracy of the reward model on the `pairs` of a prompt's responses whose gold rewards differ; gold,
    gold_spread: as reward and spread, of the gold reward; win_rate: share of a prompt's response pairs, one of each
    policy, in which the policy's has the higher gold reward, ties half.
    """
    inputs = {"samples": samples, "reference_samples": reference_samples, "policy": policy, "reference": reference,
              "reward_model": reward_model}
    settings = inputs | {"max_length": max_length, "trust_remote_code": trust_remote_code}
    scoring: dict[str, Any] = {"max_length": max_length, "max_tokens_per_batch": max_tokens_per_batch}
    with open_stage(output_dir, "measure", settings, inputs) as stage:
        if not stage.done:
            rows, reference_rows = load_policy_samples(samples), load_policy_samples(reference_samples)
            if [row["prompt"] for row in rows] != [row["prompt"] for row in reference_rows]:
                raise_input_error(
                    "reference_samples",
                    "responses to the same prompts as samples",
                    Verbatim("others"),
                    "Sample both from the same prompts, with the same seed.",
                )
            model, tokenizer = load_scorer(reward_model, trust_remote_code=trust_remote_code)
            columns = {name: [row[name] for row in rows] for name in ("prompt", "responses")}
            rewards = score_responses(model, tokenizer, Dataset.from_dict(columns), **scoring)
            stage.record["figures"] = {
                **reward_metrics(rows, rewards, gold_rewards(rows), gold_rewards(reference_rows)),
                "kl": measure_divergence(rows, policy, reference, trust_remote_code=trust_remote_code, **scoring),
                **text_metrics(rows, reward_model, trust_remote_code),
            }
    return dict(stage.record["figures"])


def load_policy_samples(folder: str) -> list[dict[str, Any]]:
    """The rows of a folder of `rmkit sample`."""
    with (Path(folder) / SAMPLES).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def gold_rewards(rows: Rows) -> Values:
    """Gold rewards; NaN for a row without a request."""
    return [np.array([gold_reward(read_request(row["request"]), response[-1]["content"])
                      if row.get("request") else np.nan for response in row["responses"]]) for row in rows]


def is_synthetic(values: NDArray[np.float64]) -> bool:
    """Whether a row's responses have gold rewards."""
    return not np.isnan(values).any()


def measure_divergence(
    rows: Rows, policy: str, reference: str, *, max_length: int, max_tokens_per_batch: int = MAX_TOKENS,
    trust_remote_code: bool = False,
) -> float:
    """Mean of log p(response) of the policy minus that of the reference, over the policy's responses, nats."""
    log_probs = []
    for path in (policy, reference):
        generator = load_generator(path, dtype=torch.float32, trust_remote_code=trust_remote_code)
        log_probs.append(np.concatenate(measure_log_probs(
            generator.model, generator.tokenizer, rows, max_length=max_length, max_tokens_per_batch=max_tokens_per_batch
        )))
    return float((log_probs[0] - log_probs[1]).mean())


def reward_metrics(rows: Rows, rewards: Values, gold: Values, reference: Values) -> dict[str, Any]:
    """The metrics of rewards; those of gold rewards on the rows where policy and reference have them."""
    pairs = [list_pairs(row["responses"]) for row in rows]
    metrics: dict[str, Any] = {
        "reward": float(np.concatenate(rewards).mean()),
        "spread": root_mean_square(pair_differences(rewards, pairs)),
    }
    known = [index for index, both in enumerate(zip(gold, reference, strict=True)) if all(map(is_synthetic, both))]
    if not known:
        return metrics
    rewards, gold, reference = ([values[index] for index in known] for values in (rewards, gold, reference))
    pairs = [pairs[index] for index in known]
    gaps, gold_gaps = pair_differences(rewards, pairs), pair_differences(gold, pairs)
    decided = gold_gaps != 0
    wins = [pair_correct((ours[:, None] - theirs[None]).ravel()).mean()
            for ours, theirs in zip(gold, reference, strict=True)]
    return {
        **metrics,
        "accuracy": pair_accuracy(gaps[decided] * np.sign(gold_gaps[decided])).accuracy if decided.any() else None,
        "pairs": int(decided.sum()),
        "gold": float(np.concatenate(gold).mean()),
        "gold_spread": root_mean_square(gold_gaps),
        "win_rate": float(np.mean(wins)),
        "gold_rows": len(known),
    }


def list_pairs(responses: Sequence[Any]) -> NDArray[np.intp]:
    """All pairs of indices of different responses, each response by its first index: [2, pair]."""
    first = [index for index, response in enumerate(responses) if responses.index(response) == index]
    return np.array(first, np.intp)[np.stack(np.triu_indices(len(first), 1))]


def pair_differences(values: Values, pairs: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
    """The differences of the pairs of all prompts, concatenated."""
    return np.concatenate([row[first] - row[second] for row, (first, second) in zip(values, pairs, strict=True)])


def root_mean_square(values: NDArray[np.float64]) -> float | None:
    """The square root of the mean square; None for no values."""
    return float(np.sqrt(np.square(values).mean())) if len(values) else None


def text_metrics(rows: Rows, tokenizer_path: str, trust_remote_code: bool) -> dict[str, float]:
    """Mean length in tokens, and share of repeated responses."""
    tokenizer = load_tokenizer(tokenizer_path, trust_remote_code=trust_remote_code)
    texts = [[response[-1]["content"] for response in row["responses"]] for row in rows]
    lengths = [len(ids) for each in texts for ids in tokenizer(each, add_special_tokens=False)["input_ids"]]
    return {
        "length": float(np.mean(lengths)),
        "duplicates": sum(len(each) - len(set(each)) for each in texts) / len(lengths),
    }
