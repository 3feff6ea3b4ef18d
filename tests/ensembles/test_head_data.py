"""Lessons: every head sees each of its own pairs once an epoch, in an order of its own, and no other head's."""

import numpy as np
import torch

from rmkit.ensembles.head_data import iterate_batches, mean_and_std, validate_pair_features


def test_each_member_goes_through_its_own_rows_once_an_epoch():
    rows_of = [np.arange(0, 50), np.arange(0, 50), np.arange(30, 77)]
    orders = [np.random.default_rng(seed) for seed in range(3)]
    batches = list(iterate_batches(rows_of, orders, per_epoch=6, epochs=2))
    assert len(batches) == 12
    for epoch in (batches[:6], batches[6:]):
        for member, own in enumerate(rows_of):
            seen = np.concatenate([rows[member][weights[member] > 0] for rows, weights in epoch])
            np.testing.assert_array_equal(np.sort(seen), own)
    for _, weights in batches:
        torch.testing.assert_close(weights.sum(1), torch.ones(3))
    first, second = batches[0][0], batches[6][0]
    assert (first[0] != first[1]).any()
    assert (first[0] != second[0]).any()


def test_a_member_with_fewer_rows_than_steps_rests_in_the_others():
    batches = list(iterate_batches([np.arange(5), np.arange(2)], [np.random.default_rng(0)] * 2, per_epoch=5, epochs=1))
    assert sum(float(weights[1].sum()) for _, weights in batches) == 2.0


def test_mean_and_deviation_are_those_of_both_sides_together():
    rng = np.random.default_rng(0)
    sides = (1e4 + rng.normal(0, [1.0, 2.0, 0.01], (2, 5000, 3))).astype(np.float32)
    sides[:, :, 2] = 3.0
    mean, deviation = mean_and_std(validate_pair_features(*sides, None, None))
    both = sides.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean, both.mean(0), rtol=1e-6)
    np.testing.assert_allclose(deviation[:2], both.std(0)[:2], rtol=1e-5)
    assert deviation[2] == 1.0  # constant
