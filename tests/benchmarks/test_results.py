"""The READMEs show the committed results, and a trial of label repair finds noise that is there."""

import importlib.util
import json
import re

import numpy as np
import pytest

from benchmarks.label_repair import trial as study
from benchmarks.report.readme import BLOCK, PAGES, TABLES
from benchmarks.report.tables import RESULTS, ROOT

NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
BLOCKS = [(page, name, text) for page in PAGES
          for _, name, text, _ in BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))]


def find_decimals(text):
    """Numbers with a decimal point, without links and ids of papers."""
    return set(re.findall(r"[-+]?\d+\.\d+", re.sub(r"\[[^\]]*\]\([^)]*\)|arXiv \S+|\d{4}\.\d{5}", "", text)))


@pytest.mark.parametrize("page, name, text", BLOCKS, ids=[name for _, name, _ in BLOCKS])
def test_a_table_has_the_numbers_of_its_results(page, name, text):
    assert NUMBER.findall(text) == NUMBER.findall(TABLES[name]()), "run python -m benchmarks.report.readme"


def test_numbers_in_the_text_are_those_of_the_tables():
    shown = {number.lstrip("+") for table in TABLES.values() for number in find_decimals(table())}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    headlines = text[text.index("| question | answer |"):text.index("In short:")]
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    questions = text[text.index("## The first paper's questions"):text.index("## Gold world")]
    for part in (headlines, questions):
        results = re.sub(r"\d\.\d(?= nats|, )|at 1\.5|at 2\.5", "", part)  # without the policies' distances
        written = {number.lstrip("+") for number in find_decimals(results)}
        assert len(written) > 20 and not written - shown


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_result_names_its_command(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert {"command", "seeds", "versions", "hardware", "written", "figures"} <= set(content)
    words = content["command"].split()
    assert words[:2] == ["python", "-m"] and importlib.util.find_spec(words[2])


def test_a_trial_finds_flipped_labels_and_repairs_them(monkeypatch):
    small = {"hidden": 16, "learning_rate": 1e-2, "epochs": 5}
    monkeypatch.setattr(study, "VOTERS", {"members": 3, **small})
    monkeypatch.setattr(study, "FINAL", {"members": 1, "loss": "bradley_terry", **small})
    monkeypatch.setattr(study, "SHARES", (0.3,))
    monkeypatch.setattr(study, "SCALES", (1.0,))
    generator = np.random.default_rng(0)
    direction = generator.normal(size=16)

    def draw(pairs):
        sides = generator.normal(size=(2, pairs, 16)).astype(np.float32)
        return study.swap(sides, (sides[0] - sides[1]) @ direction < 0)

    train, validation, test = draw(600), draw(200), draw(400)
    is_flipped = generator.random(600) < 0.3
    noisy = study.swap(train, is_flipped)
    figures, _ = study.run_trial(study.Trial(noisy, validation, {"held out": test}, np.arange(600), is_flipped), seed=0)
    assert figures["voting"]["symmetric, cross-fitted"] > 0.75
    lines = figures["lines"]
    assert lines["best recipe"]["tests"]["held out"] > lines["plain BT"]["tests"]["held out"]
    # The choice never depends on the test pairs: with these mirrored, the same candidate wins.
    mirrored = study.Trial(noisy, validation, {"held out": test[::-1]}, np.arange(600), is_flipped)
    again = study.run_trial(mirrored, seed=0)[0]["lines"]["best recipe"]
    assert all(again[key] == lines["best recipe"][key] for key in ("line", "validation"))
    assert again["tests"]["held out"] == pytest.approx(1 - lines["best recipe"]["tests"]["held out"])
