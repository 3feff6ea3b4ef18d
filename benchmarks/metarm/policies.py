"""Policies at a given KL from SFT in the gold world: each chooses among many responses of the SFT policy."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.optimize import brentq

from benchmarks.label_repair.data import MAX_LENGTH, message
from rmkit.core.seeds import derive_seed
from rmkit.data.synthetic.gold_reward import gold_reward
from rmkit.data.synthetic.prompts import draw_request, write_prompt
from rmkit.data.synthetic.responses import write_response
from rmkit.models.scoring import load_scorer, score_responses

SAMPLES = 5  # responses to a prompt, for MetaRM and in the test


@dataclass(frozen=True)
class Pool:
    """Prompts, SFT responses [prompt][response], and their gold and predicted rewards [prompt, response]."""

    prompts: list[str]
    responses: list[list[str]]
    gold: NDArray[np.float64]
    rewards: NDArray[np.float64]


def draw_pool(prompts: int, size: int, seed: int, name: str) -> Pool:
    """Different SFT responses to new prompts; `rewards` are zeros until a model has scored them."""
    rng = random.Random(derive_seed(seed, "metarm", name))
    texts, pools, gold = [], [], []
    for _ in range(prompts):
        request = draw_request(rng)
        texts.append(write_prompt(request, rng))
        responses: dict[str, None] = {}  # ordered, without repetitions
        while len(responses) < size:
            responses[write_response(request, rng.random(), rng)] = None
        pools.append(list(responses))
        gold.append([gold_reward(request, response) for response in responses])
    return Pool(texts, pools, np.array(gold), np.zeros((prompts, size)))


def score(model: Path, prompts: Sequence[str], responses: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """The model's rewards [prompt, response]."""
    rows = [
        {"prompt": message("user", prompt), "responses": [message("assistant", response) for response in group]}
        for prompt, group in zip(prompts, responses, strict=True)
    ]
    return np.stack(score_responses(*load_scorer(model), Dataset.from_list(rows), max_length=MAX_LENGTH))


def tilt(rewards: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Log-probabilities [prompt, response], proportional to exp(reward / beta), of choosing each response of a pool."""
    tilted = rewards / beta
    top = tilted.max(axis=1, keepdims=True)
    return np.asarray(tilted - top - np.log(np.exp(tilted - top).sum(axis=1, keepdims=True)))


def measure_kl(logs: NDArray[np.float64]) -> float:
    """Mean over prompts of the KL from the uniform distribution over the pool, in nats."""
    return float((np.exp(logs) * (logs + np.log(logs.shape[1]))).sum(axis=1).mean())


def find_policy(rewards: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """The log-probabilities [prompt, response] of the policy whose mean KL from SFT is `distance` nats."""
    beta = np.exp(brentq(lambda log: measure_kl(tilt(rewards, float(np.exp(log)))) - distance, -9.0, 9.0))
    return tilt(rewards, float(beta))


def draw(logs: NDArray[np.float64], seed: int) -> NDArray[np.intp]:
    """`SAMPLES` different responses [prompt, sample], drawn from a policy without replacement by the Gumbel trick."""
    noise = np.random.default_rng(seed).gumbel(size=logs.shape)
    return np.argsort(-(logs + noise), axis=1)[:, :SAMPLES]
