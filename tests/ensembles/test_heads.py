"""Heads: trained together they are what each would be alone; noise is learnt by heart in-sample, never held out."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.folds import assign_folds
from rmkit.ensembles.heads import cross_val_rewards, train_heads

SMALL = {"members": 3, "hidden": 8, "epochs": 3, "batch_size": 16}
LEARNING_RATE = 1e-3


def draw_sides(pairs=90, width=6, seed=0):
    """Features of two sides, and which side a hidden linear reward prefers put first."""
    rng = np.random.default_rng(seed)
    sides = rng.normal(2.0, 3.0, (2, pairs, width)).astype(np.float32)
    better = sides @ rng.standard_normal(width).astype(np.float32)
    swapped = better[0] < better[1]
    sides[:, swapped] = sides[::-1, swapped]
    return sides


def train_alone(sides, rows, longest, loss, target, margin, seed, part, member):
    """One head, pair after pair, the formulas written out; `longest` is the largest number of rows of any head."""
    stacked = torch.tensor(np.concatenate(sides), dtype=torch.float64)
    mean, deviation = stacked.mean(0), stacked.std(0, correction=0)
    chosen, rejected = ((torch.tensor(side, dtype=torch.float64) - mean) / deviation for side in sides)
    width = chosen.shape[1]
    start = torch.Generator().manual_seed(derive_seed(seed, "start", part, member))
    weight = (torch.randn(width, SMALL["hidden"], generator=start) / math.sqrt(width)).double().requires_grad_()
    output = (torch.randn(SMALL["hidden"], 1, generator=start) / math.sqrt(SMALL["hidden"])).double().requires_grad_()
    bias = torch.zeros(SMALL["hidden"], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW(
        [weight, bias, output], lr=LEARNING_RATE, weight_decay=0.01, foreach=False
    )

    def reward(x):
        return (torch.nn.functional.gelu(x @ weight + bias) @ output)[0]

    order = np.random.default_rng(derive_seed(seed, "order", part, member))
    per_epoch = math.ceil(longest / SMALL["batch_size"])
    step = 0
    for _ in range(SMALL["epochs"]):
        for batch in np.array_split(order.permutation(rows), per_epoch):
            share = 1 - step / (SMALL["epochs"] * per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * share
            optimizer.zero_grad()
            total = 0.0
            for row in batch:
                gap = reward(chosen[row]) - reward(rejected[row]) - margin[row]
                right, wrong = torch.sigmoid(gap), torch.sigmoid(-gap)
                if loss == "bradley_terry":
                    total = total - target[row] * right.log() - (1 - target[row]) * wrong.log()
                else:
                    total = total + target[row] * wrong + (1 - target[row]) * right
            (total / len(batch)).backward()
            optimizer.step()
            step += 1
    return [torch.stack([reward(x) for x in side]).detach().numpy() for side in (chosen, rejected)]


@pytest.mark.parametrize("loss", ["symmetric", "bradley_terry"])
def test_heads_trained_together_equal_heads_trained_one_by_one(loss):
    sides = draw_sides()
    rng = np.random.default_rng(1)
    target, margin, keep = rng.uniform(0.6, 1.0, 90), rng.normal(0.0, 0.5, 90), rng.random(90) < 0.8
    heads = train_heads(*sides, **SMALL, loss=loss, target=target, margin=margin, keep=keep, seed=5)
    rewards = [heads.score(side) for side in sides]
    rows = np.flatnonzero(keep)
    for member in range(SMALL["members"]):
        alone = train_alone(sides, rows, len(rows), loss, target, margin, 5, 0, member)
        for side in range(2):
            np.testing.assert_allclose(rewards[side][member], alone[side], atol=2e-4)
    assert np.abs(rewards[0][0] - rewards[0][1]).max() > 0.01  # members differ, or the comparison shows nothing


def test_cross_fitted_heads_equal_heads_trained_one_by_one_on_the_other_folds():
    sides = draw_sides()
    groups = np.repeat(np.arange(12), [1, 2, 3, 4, 5, 15, 10, 10, 10, 10, 10, 10])
    rewards = cross_val_rewards(*sides, **SMALL, groups=groups, folds=3, seed=5)
    folds = assign_folds(groups, 3, seed=derive_seed(5, "folds"))
    longest = max((folds != fold).sum() for fold in range(3))
    ones, zeros = np.ones(90), np.zeros(90)
    for fold in range(3):
        rows, held_out = np.flatnonzero(folds != fold), folds == fold
        alone = train_alone(sides, rows, longest, "symmetric", ones, zeros, 5, fold, 1)
        for side in range(2):
            np.testing.assert_allclose(rewards[side][1, held_out], alone[side][held_out], atol=2e-4)


def test_same_seed_same_rewards_and_members_do_not_depend_on_their_number():
    sides = draw_sides()
    first, again, other = (train_heads(*sides, **SMALL, seed=seed).score(sides[0]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    more = train_heads(*sides, **{**SMALL, "members": 5}, seed=0).score(sides[0])
    np.testing.assert_allclose(more[:3], first, atol=1e-5)


def test_a_flip_of_sides_with_target_and_margin_changes_nothing_but_the_sign():
    chosen, rejected = draw_sides()
    margin = np.linspace(-1, 1, len(chosen))
    kept = train_heads(chosen, rejected, **SMALL, target=0.9, margin=margin, seed=0)
    swapped = train_heads(rejected, chosen, **SMALL, target=0.1, margin=-margin, seed=0)
    np.testing.assert_allclose(kept.score(chosen), swapped.score(chosen), atol=1e-4)


def test_pairs_that_are_not_kept_teach_nothing():
    chosen, rejected = draw_sides()
    keep = np.arange(len(chosen)) < 60
    labelled = train_heads(chosen, rejected, **SMALL, keep=keep, seed=0)
    relabelled = train_heads(chosen, rejected, **SMALL, keep=keep, target=np.where(keep, 1.0, 0.0), seed=0)
    np.testing.assert_array_equal(labelled.score(chosen), relabelled.score(chosen))
    assert np.abs(labelled.score(chosen) - train_heads(chosen, rejected, **SMALL, seed=0).score(chosen)).max() > 0.01


@pytest.mark.parametrize("loss", ["symmetric", "bradley_terry"])
def test_labels_that_are_noise_are_learnt_by_heart_in_sample_and_cannot_be_when_held_out(loss):
    rng = np.random.default_rng(3)
    pairs = 600
    sides = rng.standard_normal((2, pairs, 40)).astype(np.float32)
    flipped = rng.random(pairs) < 0.5  # of labels that mean nothing: no model can know them without having seen them
    sides[:, flipped] = sides[::-1, flipped]
    config = {"members": 4, "hidden": 64, "epochs": 60, "learning_rate": 3e-3, "weight_decay": 0.0, "loss": loss}
    heads = train_heads(*sides, **config, seed=0)
    in_sample = (heads.score(sides[0]) - heads.score(sides[1])).mean(0)
    chosen, rejected = cross_val_rewards(*sides, **config, groups=np.arange(pairs) // 2, seed=0)
    held_out = (chosen - rejected).mean(0)
    assert (in_sample > 0).mean() > 0.9  # memory
    assert abs((held_out > 0).mean() - 0.5) < 0.07
    # Strength cannot tell the labels apart: with those of `flipped` turned back, it is about chance either way.
    assert abs(roc_auc_score(flipped, -held_out) - 0.5) < 0.07


def test_cross_fitting_never_trains_on_the_pair_it_scores():
    chosen, rejected = draw_sides()
    groups = np.arange(90) // 3
    before = cross_val_rewards(chosen, rejected, **SMALL, groups=groups, seed=0)
    target = np.ones(90)
    target[:3] = 0.0  # the whole first prompt relabelled: its own scores stay, others change
    after = cross_val_rewards(chosen, rejected, **SMALL, groups=groups, target=target, seed=0)
    np.testing.assert_array_equal(before[0][:, :3], after[0][:, :3])
    np.testing.assert_array_equal(before[1][:, :3], after[1][:, :3])
    assert np.abs(before[0][:, 3:] - after[0][:, 3:]).max() > 1e-4


def test_heads_learn_what_there_is_to_learn():
    sides = draw_sides(pairs=1500)
    heads = train_heads(*sides[:, :1000], members=2, epochs=20, seed=0)
    gaps = heads.score(sides[0, 1000:]) - heads.score(sides[1, 1000:])
    assert (gaps > 0).mean(axis=1).min() > 0.9


def test_constant_and_far_off_features_do_no_harm():
    sides = draw_sides()
    plain = train_heads(*sides, **SMALL, seed=0).score(sides[0])
    moved = sides + np.float32(1000.0)
    assert np.abs(train_heads(*moved, **SMALL, seed=0).score(moved[0]) - plain).max() < 0.01
    constant = np.concatenate([sides, np.full((2, 90, 1), 1e4, np.float32)], axis=2)
    assert np.isfinite(train_heads(*constant, **SMALL, seed=0).score(constant[0])).all()


@pytest.mark.parametrize(("changes", "message"), [
    ({"rejected": np.ones((3, 6), np.float32)}, "rejected features"),
    ({"chosen": np.full((90, 6), np.nan, np.float32)}, "finite numbers"),
    ({"target": np.full(90, 1.5)}, r"probabilities in \[0, 1\]"),
    ({"target": np.ones((90, 1))}, "one number per pair"),
    ({"margin": np.full(90, np.inf)}, "margin: expected finite"),
    ({"keep": np.zeros(90, bool)}, "at least one pair kept"),
    ({"keep": np.ones(90)}, "true or false"),
])
def test_refuses_what_does_not_fit_together(changes, message):
    chosen, rejected = draw_sides()
    arguments = {"chosen": chosen, "rejected": rejected, **changes}
    with pytest.raises(InputError, match=message):
        train_heads(**arguments, **SMALL, seed=0)


def test_refuses_groups_and_features_of_another_length():
    chosen, rejected = draw_sides()
    with pytest.raises(InputError, match="one entry for each of 90 pairs"):
        cross_val_rewards(chosen, rejected, **SMALL, groups=np.arange(80), seed=0)
    heads = train_heads(chosen, rejected, **SMALL, seed=0)
    with pytest.raises(InputError, match="same backbone"):
        heads.score(chosen[:, :3])


def test_corrected_heads_know_the_flip_rate():
    """Told that nothing is flipped they are Bradley-Terry's, told more they trust every label more."""
    chosen, rejected = draw_sides()
    plain = train_heads(chosen, rejected, **SMALL, loss="bradley_terry", seed=0)
    gaps = {}
    for rate in (0.0, 0.3):
        corrected = {"loss": "noise_corrected", "loss_kwargs": {"flip_rate": rate}}
        heads = train_heads(chosen, rejected, **SMALL, **corrected, seed=0)
        gaps[rate] = heads.score(chosen) - heads.score(rejected)
    np.testing.assert_allclose(gaps[0.0], plain.score(chosen) - plain.score(rejected), rtol=1e-5, atol=1e-6)
    assert gaps[0.3].mean() > gaps[0.0].mean()
