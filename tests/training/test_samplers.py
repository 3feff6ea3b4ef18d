"""The order of an epoch."""

from collections import Counter

import numpy as np
import pytest

from rmkit.training.samplers import GlobalBatchSampler


@pytest.mark.parametrize("count, batch", [(24, 4), (10, 4), (3, 8), (200, 3)])
def test_every_pair_and_only_whole_batches(count, batch):
    order = list(GlobalBatchSampler(count, batch=batch, seed=0, lengths=range(count)))
    assert len(order) % batch == 0 and len(order) < count + batch
    assert set(order) == set(range(count))
    times = Counter(order).values()
    assert max(times) - min(times) <= 1
    dropped = list(GlobalBatchSampler(count, batch=batch, seed=0, drop_last=True))
    assert len(dropped) == count // batch * batch and len(set(dropped)) == len(dropped)


def test_like_lengths_share_a_batch_in_a_random_order_of_batches():
    lengths = np.random.default_rng(0).integers(10, 500, size=1000)
    order = np.array(list(GlobalBatchSampler(1000, batch=20, seed=0, lengths=lengths)))
    batches = lengths[order].reshape(-1, 20)
    random = lengths[list(GlobalBatchSampler(1000, batch=20, seed=0))].reshape(-1, 20)
    assert np.ptp(batches, axis=1).mean() < 0.05 * np.ptp(random, axis=1).mean()
    assert abs(np.corrcoef(np.arange(50), batches.mean(axis=1))[0, 1]) < 0.5


def test_seed_and_epoch_decide_the_order():
    def epoch(seed, number):
        order = GlobalBatchSampler(50, batch=5, seed=seed, lengths=range(50))
        order.epoch = number
        return list(order)

    assert epoch(0, 0) == epoch(0, 0)
    assert len({tuple(epoch(seed, number)) for seed in (0, 1) for number in (0, 1)}) == 4
    assert list(GlobalBatchSampler(5, batch=2, seed=0, shuffle=False)) == [0, 1, 2, 3, 4, 0]
