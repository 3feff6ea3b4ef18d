"""Drawing tokens so that a sequence's luck is its own, whatever stands beside it in the batch."""

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN, FIRST, SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # SplitMix64's, as signed


def derive_key(seed: int, prompt: Sequence[int]) -> int:
    """64 bits (signed) from which all of a sequence's luck follows: from its seed and the ids of its prompt."""
    text = json.dumps([seed, list(prompt)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def draw_tokens(logits: Tensor, keys: Tensor, step: int, temperature: float, top_p: float) -> Tensor:
    """Token ids [row] from logits [row, vocabulary], as the token number `step` of the sequences of these keys [row].

    argmax of logits / temperature + Gumbel noise, which draws from their softmax; before that tokens outside of the
    nucleus (arXiv 1904.09751, Section 3.1: the smallest set of likeliest tokens whose probability is `top_p` or more)
    are left out. A change of the logits in their last bits changes the token about as seldom as it changes their
    probabilities; cumulated probabilities, compared with one random number, would do so once for each token of the
    vocabulary.
    """
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits.double() / temperature
    if top_p < 1:
        ordered, places = scaled.softmax(-1).sort(-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p
        scaled = scaled.masked_fill(outside.scatter(-1, places, outside), -torch.inf)
    numbers = step * scaled.shape[1] + torch.arange(scaled.shape[1], device=scaled.device)
    return (scaled + draw_gumbel(keys[:, None], numbers)).argmax(-1)


def draw_gumbel(keys: Tensor, numbers: Tensor) -> Tensor:
    """Gumbel noise, float64: that of the uniform numbers with these places in the SplitMix64 streams of these keys.

    The streams (Steele et al. 2014, Figure 16) can be entered anywhere, and are the same on every device.
    """
    uniform = (shift_right(split_mix(keys, numbers), 12).double() + 0.5) * 2.0**-52
    return -(-uniform.log()).log()


def split_mix(keys: Tensor, numbers: Tensor) -> Tensor:
    """The integers with places `numbers` (from 0) in the SplitMix64 streams seeded by `keys`; int64, which wraps."""
    mixed = keys + (numbers + 1) * GOLDEN
    mixed = (mixed ^ shift_right(mixed, 30)) * FIRST
    mixed = (mixed ^ shift_right(mixed, 27)) * SECOND
    return mixed ^ shift_right(mixed, 31)


def shift_right(bits: Tensor, count: int) -> Tensor:
    """int64 shifted as if it had no sign."""
    return (bits >> count) & ((1 << (64 - count)) - 1)
