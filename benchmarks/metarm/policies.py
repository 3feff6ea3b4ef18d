"""Policies at a distance from SFT, in the gold world: a choice among many responses of the world's own writer."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.optimize import brentq

from benchmarks.contrastive.tasks import speak
from benchmarks.label_repair.data import MAX_LENGTH
from rmkit.core.seeds import derive_seed
from rmkit.data.synthetic.gold_reward import gold_reward
from rmkit.data.synthetic.prompts import draw_request, write_prompt
from rmkit.data.synthetic.responses import write_response
from rmkit.models.scoring import load_scorer, score_responses

SAMPLES = 5  # of the meta set and of the test, to a prompt


@dataclass(frozen=True)
class Pool:
    """Prompts, responses [prompt][response] of the SFT policy, their gold rewards and the plain model's, alike."""

    prompts: list[str]
    responses: list[list[str]]
    gold: NDArray[np.float64]
    rewards: NDArray[np.float64]


def draw_pool(prompts: int, size: int, seed: int, name: str) -> Pool:
    """The SFT policy's different responses to new prompts; the plain model has not seen them yet."""
    rng = random.Random(derive_seed(seed, "metarm", name))
    texts, pools, gold = [], [], []
    for _ in range(prompts):
        request = draw_request(rng)
        texts.append(write_prompt(request, rng))
        found: dict[str, None] = {}
        while len(found) < size:
            found[write_response(request, rng.random(), rng)] = None
        pools.append(list(found))
        gold.append([gold_reward(request, response) for response in found])
    return Pool(texts, pools, np.array(gold), np.zeros((prompts, size)))


def score(model: Path, prompts: Sequence[str], responses: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """The model's rewards [prompt, response]."""
    rows = [
        {"prompt": speak("user", prompt), "responses": [speak("assistant", response) for response in group]}
        for prompt, group in zip(prompts, responses, strict=True)
    ]
    return np.stack(score_responses(*load_scorer(model), Dataset.from_list(rows), max_length=MAX_LENGTH))


def weigh(rewards: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """The policy's log-probabilities [prompt, response] of choosing each response of the pool."""
    tilted = rewards / beta
    top = tilted.max(axis=1, keepdims=True)
    return np.asarray(tilted - top - np.log(np.exp(tilted - top).sum(axis=1, keepdims=True)))


def measure_kl(logs: NDArray[np.float64]) -> float:
    """Mean KL over prompts from the uniform choice among the pool, in nats."""
    return float((np.exp(logs) * (logs + np.log(logs.shape[1]))).sum(axis=1).mean())


def find_policy(rewards: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """The log-probabilities of the policy at that mean KL from the SFT policy."""
    beta = np.exp(brentq(lambda log: measure_kl(weigh(rewards, float(np.exp(log)))) - distance, -9.0, 9.0))
    return weigh(rewards, float(beta))


def draw(logs: NDArray[np.float64], seed: int) -> NDArray[np.intp]:
    """`SAMPLES` different responses [prompt, sample] of a policy, drawn one after the other (by Gumbel's trick)."""
    noise = np.random.default_rng(seed).gumbel(size=logs.shape)
    return np.argsort(-(logs + noise), axis=1)[:, :SAMPLES]
