"""MetaRM's step for heads: where the preference gradient is taken, and to what it is applied."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu

from benchmarks.overoptimization import metarm_heads as meta
from benchmarks.overoptimization import overoptimization
from rmkit.ensembles.heads import Heads, train_heads

CONFIG = {"members": 3, "hidden": 4, "loss": "bradley_terry", "epochs": 2, "batch_size": 16}
WIDTH = 6


@pytest.fixture
def sides():
    return np.random.default_rng(0).normal(size=(2, 50, WIDTH)).astype(np.float32)


@pytest.fixture
def samples():
    """Features [prompt, response, feature]."""
    return np.random.default_rng(1).normal(size=(8, 3, WIDTH)).astype(np.float32)


@pytest.fixture
def heads():
    return Heads.init(torch.zeros(WIDTH), torch.ones(WIDTH), 4, [0, 1, 2])


def train(sides, samples, config=CONFIG, rate=0.3):
    return meta.train_meta(*sides, **config, responses=samples, rate=rate, seed=5)


def equal(one, other):
    return all(map(torch.equal, one.parameters, other.parameters))


def test_without_an_ascent_it_is_the_plain_training(sides, samples):
    plain = train_heads(*sides, **CONFIG, seed=5)
    assert equal(train(sides, samples, rate=0.0), plain)
    assert not equal(train(sides, samples), plain)


def test_members_do_not_see_each_other(sides, samples):
    alone = train(sides, samples, {**CONFIG, "members": 1})
    for mine, its in zip(train(sides, samples).parameters, alone.parameters, strict=True):
        torch.testing.assert_close(mine[:1], its)


def test_responses_are_told_apart_better_after_an_ascent(heads, samples):
    own = np.stack([samples, samples[::-1], samples * 0.5])
    before = own.copy()
    value, up, down = (meta.difference(meta.ascend(heads, own, rate), own) for rate in (0.0, 0.05, -0.05))
    assert bool((up > value).all() and (down < value).all())
    assert np.array_equal(own, before)


def test_an_ascent_with_two_responses_by_hand(heads, samples):
    own = np.stack([samples[:1, :2]] * 3)
    units = gelu(torch.from_numpy(own[:, 0]) @ heads.weight + heads.bias)
    apart = units[:, :1] - units[:, 1:]  # [member, 1, hidden]
    gap = apart @ heads.output
    chance = torch.sigmoid(gap.abs())
    slope = 0.5 * chance * (1 - chance) * gap.sign() * apart  # of J = 2 / 2**2 * sigmoid(|gap|)
    moved = meta.ascend(heads, own, 3.0)
    torch.testing.assert_close(moved.output, heads.output + 3.0 * slope.transpose(1, 2))
    assert meta.difference(heads, own).detach().numpy() == pytest.approx(0.5 * chance.detach().numpy().ravel())


def test_the_gradient_is_that_of_the_ascended_point(heads, samples, sides):
    moved = meta.ascend(heads, np.stack([samples] * 3), 2.0)
    there = Heads(moved.mean, moved.deviation, *(part.detach().requires_grad_() for part in moved.parameters))
    pairs = np.stack([sides[0]] * 3)
    found, right, plain = (
        torch.autograd.grad(each.forward(pairs.copy()).square().sum(), wanted.parameters)
        for each, wanted in ((moved, heads), (there, there), (heads, heads))
    )
    for mine, its, other in zip(found, right, plain, strict=True):
        torch.testing.assert_close(mine, its)
        assert not torch.allclose(mine, other)


def test_of_equal_step_sizes_the_smallest():
    found = [{"plain": 0.7, "tried": {"here": {"0.1": 0.6, "0.3": 0.6, "1": 0.5}}},
             {"plain": 0.5, "tried": {"here": {"0.1": 0.4, "0.3": 0.6, "1": 0.6}}}]
    steps = meta.gather_steps(found)
    assert steps["chosen"] == {"here": ["0.1", "0.3"]} and steps["plain"]["mean"] == pytest.approx(0.6)
    assert steps["tried"]["here"]["0.1"]["values"] == [0.6, 0.4]


def test_a_pool_with_an_odd_number_of_responses(monkeypatch):
    def measure(rows, *_, **__):
        return [np.array([[len(row[side][0]["content"]) + 1000.0 * len(row["prompt"][0]["content"])] for row in rows])
                for side in ("chosen", "rejected")]

    monkeypatch.setattr(overoptimization, "extract_features", measure)
    odd, even = (
        overoptimization.draw_pool(SimpleNamespace(base=None), "another_policy",
                                   overoptimization.Scale(prompts=2, responses=count), 0) for count in (5, 6)
    )
    assert odd[0].shape == (2, 5, 1) and odd[1].shape == (2, 5)
    assert odd[0][0].tolist() == even[0][0, :5].tolist() and len(np.unique(even[0][0])) > 3
    assert (odd[0] // 1000)[:, 0].tolist() == (odd[0] // 1000)[:, 4].tolist()
