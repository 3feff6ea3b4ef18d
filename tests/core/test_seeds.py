import random

import numpy as np
import torch

from rmkit.core.seeds import derive_seed, seed_everything


def test_every_purpose_has_a_seed_of_its_own():
    names = ("member", "fold")
    seeds = {derive_seed(seed, name, number) for seed in range(20) for name in names for number in range(20)}
    assert len(seeds) == 20 * 2 * 20
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(0, "member", 1) == 1001705124  # on every machine and in every version


def test_a_seed_decides_every_generator():
    draws = []
    for seed in (3, 3, 4):
        seed_everything(seed)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]
    assert not set(draws[0]) & set(draws[2])
