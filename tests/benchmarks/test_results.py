"""The README says what the results say, and the repair study finds noise that is there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.fixture
def study(monkeypatch):
    from benchmarks.label_repair import trial as repair_study

    small = {"hidden": 16, "learning_rate": 1e-2, "epochs": 5}
    monkeypatch.setattr(repair_study, "VOTERS", {"members": 3, **small})
    monkeypatch.setattr(repair_study, "FINAL", {"members": 1, "loss": "bradley_terry", **small})
    monkeypatch.setattr(repair_study, "SHARES", (0.3,))
    monkeypatch.setattr(repair_study, "SCALES", (1.0,))
    return repair_study


def test_readme_holds_what_the_results_say():
    checked = subprocess.run([sys.executable, "-m", "benchmarks.report.readme", "--check"], cwd=ROOT)
    assert checked.returncode == 0, "run python -m benchmarks.report.readme"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_result_says_where_it_comes_from(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert {"command", "seeds", "versions", "hardware", "written", "figures"} <= set(content)
    module = content["command"].split()[2]
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_a_trial_finds_planted_flips_and_repairs_them(study):
    generator = np.random.default_rng(0)
    direction = generator.normal(size=16)

    def draw(pairs):
        sides = generator.normal(size=(2, pairs, 16)).astype(np.float32)
        return study.swap(sides, (sides[0] - sides[1]) @ direction < 0)

    train, validation, test = draw(600), draw(200), draw(400)
    planted = generator.random(600) < 0.3
    noisy = study.swap(train, planted)
    trial = study.Trial(noisy, validation, {"held out": test}, np.arange(600), planted)
    outcome = study.run_trial(trial, seed=0)
    assert outcome.figures["voting"]["symmetric, cross-fitted"] > 0.75
    lines = outcome.figures["lines"]
    assert lines["best recipe"]["tests"]["held out"] > lines["plain BT"]["tests"]["held out"]
    # What is chosen never depends on the test pairs: with these mirrored, the same candidate wins.
    mirrored = study.Trial(noisy, validation, {"held out": test[::-1]}, np.arange(600), planted)
    again = study.run_trial(mirrored, seed=0).figures["lines"]["best recipe"]
    assert {key: again[key] for key in ("line", "validation")} == {
        key: lines["best recipe"][key] for key in ("line", "validation")
    }
    assert again["tests"]["held out"] == pytest.approx(1 - lines["best recipe"]["tests"]["held out"])
