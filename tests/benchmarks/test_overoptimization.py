"""The study of best-of-n: where a curve turns over, and how an ensemble's members are put together."""


import numpy as np
import pytest

from benchmarks.overoptimization import overoptimization as study
from rmkit.ensembles.heads import train_heads


@pytest.fixture
def trial():
    draws = np.random.default_rng(0)
    sides = draws.normal(size=(2, 60, 8)).astype(np.float32)
    sides[0, :, 0] += 2
    return study.Trial(sides, sides[:, :30], {}, np.arange(60), np.zeros(60, dtype=bool))


def test_a_curve_turns_over_where_it_is_highest():
    rising, falling, humped = np.arange(11.0), -np.arange(11.0), np.minimum(np.arange(11.0), 4) - np.arange(11.0) / 9
    assert [study.find_peak(curve) for curve in (rising, falling, humped)] == [10, 0, 4]
    flat = np.full(11, 13.0)
    flat[7:] += 0.001
    assert study.find_peak(flat) == 0  # what differs in the third decimal is the same


def test_what_is_lost_is_lost_from_the_common_peak():
    curve = np.minimum(np.arange(11.0), 4) - np.arange(11.0) / 9
    cells = [{"curves": {"in_distribution": {"one": (curve + shift).tolist(), "other": (curve + 2 * shift).tolist()}}}
             for shift in (0.0, 1.0)]
    sizes = study.Scale().sizes
    assert sizes[-1] == 1024 and len(sizes) == 11
    found = study.gather(cells, sizes)["in_distribution"]
    assert found["one"]["turnover"] == 16 and found["one"]["turnover_by_seed"] == [16, 16]
    assert found["one"]["lost"]["mean"] == pytest.approx(6 / 9) and found["one"]["gold"][0]["values"] == [0.0, 1.0]
    assert found["one"]["gain"]["mean"] == 0 and found["other"]["gain"]["values"] == pytest.approx([0.0, 1.0])


def test_members_are_put_together_in_units_of_their_own(trial):
    heads = train_heads(*trial.train, members=3, epochs=1, seed=0)
    seen = np.concatenate([heads.score(side) for side in trial.train], axis=1)
    found = study.standardise(seen, heads, trial)
    assert found.mean(axis=1) == pytest.approx(np.zeros(3), abs=1e-9) and found.std(axis=1) == pytest.approx(np.ones(3))
    rewards = np.array([[1.0, 4.0], [3.0, 4.0]])
    assert study.combine(rewards, 0.5).tolist() == [1.5, 4.0]
    assert study.choose_penalty(heads, trial) in study.PENALTIES
