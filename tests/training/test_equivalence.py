"""The same training whatever the ZeRO stage, number of processes, accumulation and activation checkpointing."""

import math

import numpy as np
import pytest
import torch

from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.training.zero import deepspeed_environment, default_config
from tests.training import ranks_worker
from tests.training.ranks_worker import ALL_PAIRS, BATCH, SETTINGS, cells

pytestmark = pytest.mark.slow
TOLERANCE = 1e-5
# Under bfloat16 a token passes about 40 rounded operations on its way to a reward (18 in each of two layers), and its
# gradient twice as many on the way back, each off by up to 2^-8 of its result. Such errors add up as a random walk: to
# 4.3 % of the largest reward, for what training has made of it. A loss changes by no more than its gap: twice that.
BFLOAT16 = math.sqrt(40 + 80) * 2**-8


@pytest.fixture(scope="module")
def train(tiny_base, pairs_file, tmp_path_factory):
    """train(config, micro=BATCH, **settings) -> `ranks_worker.train` in this process."""
    out = str(tmp_path_factory.mktemp("one process"))

    def run(config, micro=BATCH, **settings):
        with deepspeed_environment():
            return ranks_worker.train(str(tiny_base), pairs_file, out, config, micro=micro, **settings)

    return run


@pytest.fixture(scope="module")
def reference(train):
    """Plain torch: one process, whole batches, no checkpointing."""
    return train(None)


def assert_same(run, reference):
    steps, expected = (np.array(numbers["steps"]) for numbers in (run, reference))
    assert len(expected) == 30
    np.testing.assert_allclose(steps[:, 0], expected[:, 0], rtol=TOLERANCE)  # the losses
    np.testing.assert_allclose(run["rewards"], reference["rewards"], rtol=TOLERANCE)
    if run["norms"][0] is not None:  # DeepSpeed's stage 0 does not report them
        np.testing.assert_allclose(run["norms"], reference["norms"], rtol=TOLERANCE)
    np.testing.assert_allclose(steps, expected, rtol=TOLERANCE, atol=1e-6)  # means of rewards may be near zero
    np.testing.assert_allclose(run["metrics"], reference["metrics"], rtol=TOLERANCE, atol=1e-6)


@pytest.mark.parametrize("cell", cells(1))
def test_one_process(train, reference, cell):
    config, settings = cells(1)[cell]
    assert_same(train(config, **settings), reference)


@pytest.mark.parametrize("cell", cells(2))
def test_two_processes(two_ranks, reference, cell):
    assert_same(two_ranks["runs"][cell], reference)


@pytest.mark.parametrize("processes", [1, 2])
def test_token_budget(train, two_ranks, processes):
    """Micro-batches of 5 and 6 pairs on each of two processes, or of 11 on one: all 22 in one batch."""
    settings = {**ALL_PAIRS, "micro": BATCH // 2}
    run = train(default_config(1), **settings) if processes == 1 else two_ranks["runs"]["token budget"]
    assert_same(run, train(None, gradient_accumulation_steps=1, per_device_train_batch_size=22))


def test_clipping_and_training_change_the_numbers(train, reference):
    """Training and clipping change the numbers by more than the tolerance of the tests above."""
    norms = np.array(reference["norms"])
    assert 5 < (norms > SETTINGS["max_grad_norm"]).sum() < 30
    losses = [np.array(run["steps"])[:, 0] for run in (reference, train(None, max_grad_norm=0.0))]
    assert abs(losses[1] / losses[0] - 1).max() > 100 * TOLERANCE
    assert losses[0][-3:].mean() < 0.8 * losses[0][:3].mean()


def bfloat16_errors(run, reference):
    """The largest difference of rewards in shares of the largest reward, and of losses in the same measure."""
    scale = np.abs(reference["rewards"]).max()
    losses = [np.array(numbers["steps"])[:, 0] for numbers in (run, reference)]
    rewards = np.abs(np.subtract(run["rewards"], reference["rewards"])).max()
    return rewards / scale, np.abs(losses[0] - losses[1]).max() / scale


@pytest.mark.parametrize("processes", [1, 2])
def test_bfloat16(train, two_ranks, reference, processes):
    run = train(default_config(2), bf16=True) if processes == 1 else two_ranks["runs"]["bfloat16"]
    rewards, losses = bfloat16_errors(run, reference)
    assert 1e-4 < rewards < BFLOAT16 and 1e-5 < losses < 2 * BFLOAT16


def test_weights_rounded_to_bfloat16_leave_the_bound(train, reference, tiny_base):
    """Without DeepSpeed's float32 copy of the weights, small steps are rounded to zero."""
    model = load_reward_model(tiny_base, load_tokenizer(tiny_base), seed=0).to(torch.bfloat16)
    rewards, _ = bfloat16_errors(train(None, model=model), reference)
    assert rewards > 2 * BFLOAT16
