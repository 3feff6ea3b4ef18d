"""Train, validation and test splits by prompt, so that a prompt's pairs stay together."""

import hashlib
import json
from collections.abc import Mapping, Sequence

SPLITS = ("train", "validation", "test")


def assign_split(
    prompt: Sequence[Mapping[str, str]], *, seed: int, validation_fraction: float, test_fraction: float
) -> str:
    """The split that a prompt belongs to, the same whatever other rows there are and in whatever order.

    A hash of the seed and the prompt is a uniform number in [0, 1): below `test_fraction` the split is "test", then
    "validation", then "train". The fractions hold in expectation, by prompts.
    """
    text = json.dumps([seed, [[message["role"], message["content"]] for message in prompt]])
    position = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    if position < test_fraction:
        return "test"
    return "validation" if position < test_fraction + validation_fraction else "train"
