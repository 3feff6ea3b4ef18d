"""Drawing: the distribution asked for, each sequence's luck its own."""

import math

import pytest
import torch

from rmkit.generation.sampling import derive_key, draw_gumbel, draw_tokens, split_mix


def split_mix_slowly(key, count):
    """The stream as Steele et al. write it, in Python's unbounded integers."""
    whole, outputs = 2**64 - 1, []
    for _ in range(count):
        key = (key + 0x9E3779B97F4A7C15) & whole
        mixed = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & whole
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & whole
        outputs.append(mixed ^ (mixed >> 31))
    return outputs


def draw_slowly(logits, key, step, temperature, top_p):
    """One row, token by token, in Python's own arithmetic."""
    weights = [math.exp((float(logit) - float(logits.max())) / temperature) for logit in logits]
    nucleus, mass = [], 0.0
    for token in sorted(range(len(weights)), key=lambda token: -weights[token]):
        if mass < top_p:
            nucleus.append(token)
            mass += weights[token] / sum(weights)
    stream = split_mix_slowly(key % 2**64, (step + 1) * len(weights))[step * len(weights):]
    waits = {token: -math.log(((stream[token] >> 12) + 0.5) / 2**52) / weights[token] for token in nucleus}
    return min(waits, key=waits.get)  # the first of several exponential clocks


def test_split_mix_gives_its_published_stream():
    assert split_mix_slowly(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    keys = [1234567, -1, 0, 2**63 - 1, -2**63]
    found = split_mix(torch.tensor(keys)[:, None], torch.arange(50))
    expected = [split_mix_slowly(key % 2**64, 50) for key in keys]
    assert [[number % 2**64 for number in row] for row in found.tolist()] == expected


@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.5, 1.0), (2.0, 0.8), (1.0, 0.3), (0.7, 1e-6)])
def test_draws_as_the_slow_reference(temperature, top_p):
    logits = 3 * torch.randn(200, 23, generator=torch.Generator().manual_seed(0))
    keys = [derive_key(row, [1, 2]) for row in range(200)]
    for step in (0, 7):
        drawn = draw_tokens(logits, torch.tensor(keys), step, temperature, top_p)
        assert drawn.tolist() == [
            draw_slowly(row, key, step, temperature, top_p) for row, key in zip(logits, keys, strict=True)
        ]


def test_many_sequences_draw_from_the_softmax():
    logits = torch.tensor([0.3, -1.0, 2.0, -torch.inf, 0.0])
    count = 40_000
    keys = torch.tensor([derive_key(seed, []) for seed in range(count)])
    for step in (0, 3):
        drawn = draw_tokens(logits.expand(count, -1), keys, step, 0.8, 1.0)
        expected = (logits / 0.8).softmax(-1)
        spread = (expected * (1 - expected) / count).sqrt()
        assert ((torch.bincount(drawn, minlength=5) / count - expected).abs() <= 4.5 * spread).all()


def test_noise_is_gumbel_and_unrelated_along_a_sequence():
    noise = draw_gumbel(torch.tensor([derive_key(0, [1])])[:, None], torch.arange(200_000))[0]
    assert noise.mean() == pytest.approx(0.5772, abs=0.015) and noise.var() == pytest.approx(math.pi**2 / 6, abs=0.03)
    for lag in (1, 23, 2048):
        assert abs(torch.corrcoef(torch.stack([noise[lag:], noise[:-lag]]))[0, 1]) < 0.012


def test_temperature_zero_takes_the_likeliest():
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, -1.0, 4.9]])
    assert draw_tokens(logits, torch.tensor([1, 2]), 0, 0.0, 1.0).tolist() == [1, 0]


def test_rounding_seldom_changes_a_token():
    """Noise of 1e-6 on the logits of 2,048 tokens; cumulated probabilities would change about 1 draw in 1,000."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 2048, generator=generator)
    near = logits + 1e-6 * torch.randn(logits.shape, generator=generator)
    keys = torch.tensor([derive_key(row, []) for row in range(500)])
    changed = sum(int((draw_tokens(logits, keys, step, 1.0, 1.0) != draw_tokens(near, keys, step, 1.0, 1.0)).sum())
                  for step in range(10))
    assert changed == 0


def test_keys_hang_on_seed_and_prompt():
    keys = {derive_key(3, [5, 6]), derive_key(4, [5, 6]), derive_key(3, [5, 7]), derive_key(3, [56])}
    assert len(keys) == 4 and derive_key(3, (5, 6)) in keys
    assert all(-2**63 <= key < 2**63 for key in keys) and min(keys) < 0 < max(keys)
