"""Prompts: those of any data that has them, each once, as many as are wanted."""

import heapq
import json
from typing import Any

from tqdm import tqdm

from rmkit.core.checks import Seen, refuse
from rmkit.core.stages import digest
from rmkit.data.pairs import Unusable, read_prompt
from rmkit.data.quarantine import Quarantine
from rmkit.data.sources import Fault, read_rows

RESPONSES = ("chosen", "rejected", "responses", "completions")  # columns that are not the prompt's


def read_prompts(
    data: str, split: str, quarantine: Quarantine, *, count: int | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of `data` with their `prompt` as messages and all columns that are not responses; equal prompts are one.

    `count`: how many, drawn under `seed`, in the order of the data; by default all. Which ones does not depend on that
    order. Rows without a prompt to answer go into `quarantine`. Raises `InputError` where there is none to answer.
    """
    found: dict[str, tuple[str, int, dict[str, Any]]] = {}
    for row in tqdm(read_rows(data, split), f"Reading {data}", unit=" rows", disable=None):
        if isinstance(row.content, Fault):
            quarantine.add(row, row.content)
            continue
        try:
            if row.content.get("prompt") is None:
                raise Unusable("missing prompt")
            prompt = read_prompt(row.content["prompt"])
            if not prompt[-1]["content"].strip() or prompt[-1]["role"] == "assistant":
                raise Unusable("nothing to answer")
        except Unusable as unusable:
            quarantine.add(row, Fault(*unusable.args))
            continue
        others = {name: value for name, value in row.content.items() if name not in RESPONSES}
        luck = digest(json.dumps([seed, prompt]))
        found.setdefault(luck, (luck, len(found), {**others, "prompt": prompt}))
    if not found:
        seen = Seen(f"none; set aside: {dict(quarantine.reasons)}")
        refuse(f"data {data}", "a row with a prompt to answer", seen, f"See {quarantine.path}.")
    drawn = heapq.nsmallest(len(found) if count is None else count, found.values())
    return [row for _, _, row in sorted(drawn, key=lambda entry: entry[1])]
