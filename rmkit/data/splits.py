"""Splits: train, validation and test, drawn by prompt, so that a prompt's pairs stay together."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from rmkit.core.checks import Verbatim, raise_input_error

SPLITS = ("train", "validation", "test")


def assign_split(
    prompt: Sequence[Mapping[str, str]], *, seed: int, validation_fraction: float, test_fraction: float
) -> str:
    """The split that a prompt belongs to, the same whatever other rows there are and in whatever order.

    A hash of the seed and the prompt is the uniform number in [0, 1) that decides: below `test_fraction` it is
    "test", then "validation", then "train". The fractions are therefore met in expectation, by prompts.
    """
    text = json.dumps([seed, [[message["role"], message["content"]] for message in prompt]])
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    if share < test_fraction:
        return "test"
    return "validation" if share < test_fraction + validation_fraction else "train"


def check_fractions(validation_fraction: float, test_fraction: float) -> None:
    """Refuse fractions that are not shares of one whole with something left to train on."""
    for name, fraction in (("validation_fraction", validation_fraction), ("test_fraction", test_fraction)):
        if not 0 <= fraction < 1:
            raise_input_error(name, "a share in [0, 1)", fraction, "Write 0.1 for 10 %.")
    if validation_fraction + test_fraction >= 1:
        raise_input_error(
            "validation_fraction + test_fraction",
            "a sum below 1",
            Verbatim(validation_fraction + test_fraction),
            "Leave some pairs to train on.",
        )
