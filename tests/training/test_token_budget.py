"""Batches within a token budget: every pair once, as many batches on every process, a step's mean over its pairs."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.data.collators import PairPacker
from rmkit.training.samplers import TokenBudgetBatchSampler


def cut(sizes, processes, **settings):
    return [TokenBudgetBatchSampler(sizes, processes=processes, process=process, seed=0, **settings)
            for process in range(processes)]


@example(sizes=[2, 20, 20, 29, 29, 29, 29, 29, 29, 1, 2], processes=2, accumulation=4, padded=False, budget=50)
@example(sizes=[1, 1, 1, 1, 26], processes=2, accumulation=1, padded=True, budget=50)  # a shard to be filled
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    processes=st.integers(1, 3),
    accumulation=st.integers(1, 4),
    padded=st.booleans(),
    budget=st.integers(50, 300),
)
def test_every_pair_within_the_budget(sizes, processes, accumulation, padded, budget):
    orders = cut(np.array(sizes), processes, tokens=budget, padded=padded, accumulation=accumulation)
    batches = [list(order) for order in orders]
    assert len(set(map(len, batches))) == 1 and len(batches[0]) == len(orders[0])
    assert len(orders[0]) % accumulation == 0
    for together in zip(*batches, strict=True):
        assert len(set(map(len, together))) == 1  # what gathers rows over processes counts on it
        for batch in together:
            tokens = [sizes[row] for row in batch]
            assert 0 < (max(tokens) * len(tokens) if padded else sum(tokens)) <= budget
    visits = np.bincount([row for own in batches for batch in own for row in batch], minlength=len(sizes))
    filled = -len(sizes) % processes
    assert (visits > 0).all()
    if (len(sizes) + filled) // processes >= len(orders[0]):  # as many shards as batches
        assert visits.sum() == len(sizes) + filled
    elif len(sizes) >= processes * accumulation:
        assert visits.max() <= 4  # twice by filling the shards, and again by filling the last step


def test_batches_are_as_full_as_can_be_and_of_like_sizes():
    sizes = np.random.default_rng(0).integers(10, 500, size=1000)
    batches = list(TokenBudgetBatchSampler(sizes, tokens=4000, padded=False, seed=0))
    filled = np.array([sizes[batch].sum() for batch in batches])
    assert len(batches) <= 1.1 * sizes.sum() / 4000 and np.median(filled) > 3600
    assert np.mean([np.ptp(sizes[batch]) for batch in batches]) < 30


def test_epochs_take_the_same_steps_in_orders_of_their_own():
    order = TokenBudgetBatchSampler(np.arange(1, 60), tokens=100, padded=False, seed=0, accumulation=2)
    epochs = []
    for order.epoch in (0, 1, 0):
        epochs.append([tuple(batch) for batch in order])
    assert epochs[0] == epochs[2] != epochs[1]
    steps = [{(one, other) for one, other in zip(epoch[::2], epoch[1::2], strict=True)} for epoch in epochs]
    assert steps[0] == steps[1]


def test_a_pair_beyond_the_budget():
    with pytest.raises(InputError, match="expected at least the 70 tokens of the longest pair, got 64"):
        TokenBudgetBatchSampler([10, 70], tokens=64, padded=False, seed=0)


@pytest.mark.parametrize("contrastive", ["none", "simcse"])
@pytest.mark.parametrize("packing", [True, False])
def test_forwards_stay_within_the_budget(build_trainer, packing, contrastive):
    trainer = build_trainer(max_tokens_per_batch=250, packing=packing, contrastive=contrastive)
    assert isinstance(trainer.data_collator, PairPacker) == packing
    views = 2 if contrastive == "simcse" else 1
    sizes = [views * batch["input_ids"].numel() for batch in trainer.get_train_dataloader()]
    assert max(sizes) <= 250 and np.median(sizes) > 150


def test_unlike_micro_batches_weigh_by_their_pairs(train_losses, tiny_pairs):
    """Accumulated over two micro-batches, of 11 and 12 pairs, or taken at once, a step and its loss are the same."""
    settings = {"max_steps": 4, "max_tokens_per_batch": 10**6, "pairs": tiny_pairs.select(range(23))}
    whole = train_losses(**settings)
    cut_in_two = train_losses(gradient_accumulation_steps=2, **settings)
    np.testing.assert_allclose(cut_in_two, whole, rtol=1e-5)
    assert len(set(whole)) == 4
