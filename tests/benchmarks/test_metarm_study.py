"""The study of MetaRM: its policies are what they are called, and it goes from end to end in miniature."""

import numpy as np
import pytest

from benchmarks.contrastive.tasks import Task
from benchmarks.metarm import metarm, policies


def test_a_policy_is_at_its_distance():
    rewards = np.random.default_rng(0).normal(size=(50, 64))
    for distance in (0.5, 1.5, 2.5):
        logs = policies.find_policy(rewards, distance)
        np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1.0)
        assert policies.measure_kl(logs) == pytest.approx(distance, abs=1e-8)
    assert policies.measure_kl(policies.tilt(rewards, 1e9)) == pytest.approx(0.0, abs=1e-8)
    assert policies.measure_kl(policies.tilt(rewards, 1e-3)) == pytest.approx(np.log(64), abs=0.02)


def test_responses_are_drawn_with_the_policy_s_probabilities_and_differ():
    logs = np.log(np.tile([0.5, 0.2, 0.1, 0.1, 0.05, 0.05], (40_000, 1)))
    drawn = policies.draw(logs, seed=0)
    np.testing.assert_allclose(np.bincount(drawn[:, 0], minlength=6) / 40_000, np.exp(logs[0]), atol=0.01)
    second = np.bincount(drawn[drawn[:, 0] == 0, 1], minlength=6)
    np.testing.assert_allclose(second / second.sum(), [0, 0.4, 0.2, 0.2, 0.1, 0.1], atol=0.015)
    assert all(len(set(row)) == policies.SAMPLES for row in drawn[:100].tolist())


def test_no_reported_seed_is_one_that_was_tuned_with():
    assert metarm.TRAINED.pick_seeds(10) == [0, 1, 2, 3, 4, 8, 9, 10, 11, 12]
    assert metarm.SCRATCH.pick_seeds(5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("trained", [True, False])
def test_the_study_in_miniature(trained, tiny_base, tiny_pairs, tmp_path, monkeypatch):
    task = Task(
        base=str(tiny_base), pairs=tiny_pairs, probe=tiny_pairs, settings={}, validate=lambda model: 0.5,
        test=lambda model: {"gold": 0.5},
    )
    monkeypatch.setattr(metarm, "make_gold_task", lambda folder, seed, **size: task)
    monkeypatch.setattr(metarm, "VARIANTS", {"full": (1, 1)})
    scale = metarm.Scale(pool=8, prompts={"meta": 3, "test": 2}, distances=(0.3,))
    settings = {**metarm.SHARED, "max_steps": 1, "per_device_train_batch_size": 2, "learning_rate": 1e-3}
    design = metarm.Design("metarm", settings, pairs=24, step_sizes=(0.1,), tuning_seeds=(1,),
                           start=settings if trained else None)
    first = metarm.study(tmp_path / "work", tmp_path / "worlds", [0], scale, design)
    plain = first["distances"]["0.3"]["plain"]
    assert plain["kl"]["mean"] == pytest.approx(0.3) and plain["pairs"]["mean"] > 10
    assert first["distances"]["0.3"]["gain"]["low"] is None  # one seed has no interval
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
    assert metarm.study(tmp_path / "work", tmp_path / "worlds", [0], scale, design) == first
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.json")}
