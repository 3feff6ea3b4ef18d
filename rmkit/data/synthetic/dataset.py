"""Pairs and demonstrations drawn from the gold world, by split."""

import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rmkit.core.checks import raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.data.synthetic.gold_reward import gold_reward
from rmkit.data.synthetic.prompts import Request, draw_request, write_prompt
from rmkit.data.synthetic.responses import write_response

# split -> what differs from training
SPLITS: dict[str, dict[str, Any]] = {
    "train": {},
    "validation": {},
    "in_distribution": {},
    "new_topics": {"new_themes": True},
    "new_phrasings": {"new_phrasings": True},
    "another_policy": {"policy": 1},
}
TEST_SPLITS = ("in_distribution", "new_topics", "new_phrasings", "another_policy")


def draw_requests(split: str, count: int, rng: random.Random) -> Iterator[tuple[int, Request, str]]:
    """Numbered requests of one split with their prompts; each is drawn when it is asked for."""
    kind = SPLITS[split]
    for number in range(count):
        request = draw_request(rng, new_themes=kind.get("new_themes", False))
        yield number, request, write_prompt(request, rng, new_phrasings=kind.get("new_phrasings", False))


def split_generator(split: str, seed: int, *names: str) -> random.Random:
    """The random numbers of one split; raises `InputError` for an unknown one."""
    if split not in SPLITS:
        raise_input_error("split", "one of " + ", ".join(SPLITS), split, "Name one of these.")
    return random.Random(derive_seed(seed, "gold", *names, split))


def draw_pairs(split: str, pairs: int, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Labelled pairs of one split, each with its true `gold_gap` = gold reward (chosen) - gold reward (rejected).

    The label is drawn Bradley-Terry: the first response is preferred with probability sigmoid(gap). So a pair with
    a small gap is ambiguous, and `gold_gap` is negative where the draw went against the better response.
    """
    rng = split_generator(split, seed)
    for number, request, prompt in draw_requests(split, pairs, rng):
        first, second = draw_two(request, SPLITS[split].get("policy", 0), rng)
        gap = gold_reward(request, first) - gold_reward(request, second)
        if rng.random() >= 1.0 / (1.0 + math.exp(-gap)):
            first, second, gap = second, first, -gap
        yield {
            "id": f"{split}:{number}",
            "prompt": prompt,
            "chosen": first,
            "rejected": second,
            "source": split,
            "gold_gap": gap,
        }


def draw_two(request: Request, policy: int, rng: random.Random) -> tuple[str, str]:
    """Two different responses of independent quality."""
    first = write_response(request, rng.random(), rng, policy=policy)
    while True:
        second = write_response(request, rng.random(), rng, policy=policy)
        if second != first:
            return first, second


def draw_demonstrations(count: int, *, seed: int = 0, worst: float = 0.7) -> Iterator[dict[str, Any]]:
    """Prompts on every theme with a response of mixed quality: the text a base model of this world has read.

    `worst`: the least quality; from there up to 1 all are alike likely.
    """
    rng = random.Random(derive_seed(seed, "gold", "demonstrations"))
    for number in range(count):
        yield draw_response(number, rng, worst)[1]


def draw_response(number: int, rng: random.Random, worst: float = 0.0) -> tuple[Request, dict[str, str]]:
    """A request, and a row of its `prompt` and a `response`, on themes and in words of every split."""
    request = draw_request(rng, new_themes=number % 4 == 0)
    prompt = write_prompt(request, rng, new_phrasings=number % 8 == 1)
    response = write_response(request, rng.uniform(worst, 1.0), rng, policy=int(number % 8 == 2))
    return request, {"prompt": prompt, "response": response}


def write_dataset(folder: str | Path, *, train: int, validation: int, test: int, seed: int = 0) -> dict[str, Path]:
    """Write `train.jsonl`, `validation.jsonl` and `test.jsonl`; the last holds `test` pairs of each test split."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {name: {name: pairs} for name, pairs in (("train", train), ("validation", validation))}
    sizes["test"] = dict.fromkeys(TEST_SPLITS, test)
    paths = {name: folder / f"{name}.jsonl" for name in sizes}
    for name, path in paths.items():
        rows = (row for split, pairs in sizes[name].items() for row in draw_pairs(split, pairs, seed=seed))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths


def draw_prompts(split: str, count: int, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Prompts of one split, drawn apart from its pairs: `id`, `prompt`, `request` (for `read_request`)."""
    for number, request, prompt in draw_requests(split, count, split_generator(split, seed, "prompts")):
        yield {"id": f"{split}:prompt:{number}", "prompt": prompt, "request": asdict(request)}


def read_request(content: Mapping[str, Any]) -> Request:
    """The request in the column `request` of a row."""
    return Request(**{**content, "themes": tuple(content["themes"])})
