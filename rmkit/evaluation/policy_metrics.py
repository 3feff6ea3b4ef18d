"""A policy and its reward model measured on the policy's responses, of which the gold world knows the true quality."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
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


@dataclass
class PolicyMetricsConfig:
    """Measure the reward model on the `samples` of `policy` (folders of `rmkit sample`), beside those of `reference`.

    `reference_samples` are the reference policy's responses to the same prompts, as many. Rows with the `request` of
    the gold world have gold rewards, and what is gold is measured on them; where there are none, it is left out.
    """

    samples: str
    reference_samples: str
    policy: str
    reference: str
    reward_model: str
    output_dir: str
    max_length: int = 1024
    max_tokens_per_batch: int = MAX_TOKENS
    trust_remote_code: bool = False


def measure_policy(config: PolicyMetricsConfig) -> dict[str, Any]:
    """The figures, which also stand in the record of the stage's folder.

    reward: mean reward. spread: root mean square of the differences between two different responses to a prompt,
    reward units. accuracy: of the reward model on all pairs of a prompt's responses whose gold rewards differ, `pairs`
    of them. gold, gold_spread: the same of the gold reward. win_rate: share of prompts' response pairs, one of the
    policy and one of the reference, in which the policy's has more gold, ties half. gold_rows: rows that have gold
    rewards, to which the figures from accuracy on are confined. kl: mean log-ratio of policy to
    reference over the policy's responses, nats; of samples at temperature 1 and top_p 1 it estimates the divergence.
    length: mean tokens of a response. duplicates: share of responses that repeat an earlier one to their prompt.
    """
    inputs = {name: getattr(config, name)
              for name in ("samples", "reference_samples", "policy", "reference", "reward_model")}
    with open_stage(config.output_dir, "measure", as_dict(config), inputs) as stage:
        if not stage.done:
            rows, reference_rows = (
                load_policy_samples(folder) for folder in (config.samples, config.reference_samples)
            )
            if [row["prompt"] for row in rows] != [row["prompt"] for row in reference_rows]:
                raise_input_error(
                    "reference_samples",
                    "responses to the same prompts as samples",
                    Verbatim("others"),
                    "Draw both from the same prompts, with the same seed.",
                )
            stage.record["figures"] = {
                **describe_rewards(rows, score(rows, config), gold_rewards(rows), gold_rewards(reference_rows)),
                "kl": measure_divergence(rows, config.policy, config.reference, max_length=config.max_length,
                                         max_tokens_per_batch=config.max_tokens_per_batch,
                                         trust_remote_code=config.trust_remote_code),
                **text_metrics(rows, config),
            }
    return dict(stage.record["figures"])


def load_policy_samples(folder: str) -> list[dict[str, Any]]:
    """The rows of a folder of `rmkit sample`."""
    with (Path(folder) / SAMPLES).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def score(rows: Rows, config: PolicyMetricsConfig) -> Values:
    """The reward model's rewards."""
    model, tokenizer = load_scorer(config.reward_model, trust_remote_code=config.trust_remote_code)
    columns = {name: [row[name] for row in rows] for name in ("prompt", "responses")}
    return score_responses(model, tokenizer, Dataset.from_dict(columns), max_length=config.max_length,
                           max_tokens_per_batch=config.max_tokens_per_batch)


def gold_rewards(rows: Rows) -> Values:
    """Gold rewards; NaN where a row has no request."""
    return [np.array([gold_reward(read_request(row["request"]), response[-1]["content"])
                      if row.get("request") else np.nan for response in row["responses"]]) for row in rows]


def is_synthetic(values: NDArray[np.float64]) -> bool:
    """Whether a row's responses have gold rewards."""
    return not np.isnan(values).any()


def measure_divergence(
    rows: Rows, policy: str, reference: str, *, max_length: int, max_tokens_per_batch: int = MAX_TOKENS,
    trust_remote_code: bool = False,
) -> float:
    """Mean of log p(response) of the policy less that of the reference, over the policy's responses, nats."""
    found = []
    for path in (policy, reference):
        generator = load_generator(path, dtype=torch.float32, trust_remote_code=trust_remote_code)
        found.append(np.concatenate(measure_log_probs(
            generator.model, generator.tokenizer, rows, max_length=max_length, max_tokens_per_batch=max_tokens_per_batch
        )))
    return float((found[0] - found[1]).mean())


def describe_rewards(rows: Rows, rewards: Values, gold: Values, reference: Values) -> dict[str, Any]:
    """What the rewards [response], by prompt, say of policy and reward model; gold rewards may be NaN."""
    pairs = [list_pairs(row["responses"]) for row in rows]
    figures: dict[str, Any] = {
        "reward": float(np.concatenate(rewards).mean()),
        "spread": root_mean_square(pair_differences(rewards, pairs)),
    }
    known = [place for place, both in enumerate(zip(gold, reference, strict=True)) if all(map(is_synthetic, both))]
    if not known:
        return figures
    rewards, gold, reference = ([values[place] for place in known] for values in (rewards, gold, reference))
    pairs = [pairs[place] for place in known]
    gaps, truth = pair_differences(rewards, pairs), pair_differences(gold, pairs)
    told = truth != 0
    wins = [pair_correct((ours[:, None] - theirs[None]).ravel()).mean()
            for ours, theirs in zip(gold, reference, strict=True)]
    return {
        **figures,
        "accuracy": pair_accuracy(gaps[told] * np.sign(truth[told])).accuracy if told.any() else None,
        "pairs": int(told.sum()),
        "gold": float(np.concatenate(gold).mean()),
        "gold_spread": root_mean_square(truth),
        "win_rate": float(np.mean(wins)),
        "gold_rows": len(known),
    }


def list_pairs(responses: Sequence[Any]) -> NDArray[np.intp]:
    """All pairs of places of different responses, each response at its first place: [2, pair]."""
    first = [place for place, response in enumerate(responses) if responses.index(response) == place]
    one, other = np.triu_indices(len(first), 1)
    return np.array(first, np.intp)[np.stack([one, other])]


def pair_differences(values: Values, pairs: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
    """The differences of all prompts' pairs, one behind the other."""
    return np.concatenate([own[one] - own[other] for own, (one, other) in zip(values, pairs, strict=True)])


def root_mean_square(values: NDArray[np.float64]) -> float | None:
    """The square root of the mean square; None where there are no values."""
    return float(np.sqrt(np.square(values).mean())) if len(values) else None


def text_metrics(rows: Rows, config: PolicyMetricsConfig) -> dict[str, float]:
    """Length and repetition."""
    tokenizer = load_tokenizer(config.reward_model, trust_remote_code=config.trust_remote_code)
    texts = [[response[-1]["content"] for response in row["responses"]] for row in rows]
    lengths = [len(ids) for own in texts for ids in tokenizer(own, add_special_tokens=False)["input_ids"]]
    return {
        "length": float(np.mean(lengths)),
        "duplicates": sum(len(own) - len(set(own)) for own in texts) / len(lengths),
    }
