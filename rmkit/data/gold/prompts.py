"""Prompts of the gold world alone, with the request that each of them makes: what a policy is measured on."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rmkit.core.checks import refuse
from rmkit.core.seeds import derive_seed
from rmkit.data.gold.requests import Request, draw_request, write_prompt
from rmkit.data.gold.world import SPLITS


def draw_prompts(split: str, count: int, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Prompts of one split, drawn apart from its pairs: `id`, `prompt`, `request` (for `read_request`)."""
    if split not in SPLITS:
        refuse("split", "one of " + ", ".join(SPLITS), split, "Name one of these.")
    rng = random.Random(derive_seed(seed, "gold", "prompts", split))
    kind = SPLITS[split]
    for number in range(count):
        request = draw_request(rng, new_themes=kind.get("new_themes", False))
        prompt = write_prompt(request, rng, new_phrasings=kind.get("new_phrasings", False))
        yield {"id": f"{split}:prompt:{number}", "prompt": prompt, "request": asdict(request)}


def read_request(content: Mapping[str, Any]) -> Request:
    """The request in the column `request` of a row."""
    return Request(**{**content, "themes": tuple(content["themes"])})
