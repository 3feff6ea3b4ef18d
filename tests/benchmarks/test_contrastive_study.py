"""The study of the contrastive terms: what is kept apart, each argument scored once, intervals of paired gains."""

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tasks(monkeypatch):
    from benchmarks.contrastive import tasks as contrastive_tasks

    monkeypatch.setattr(contrastive_tasks, "UKP_PAIRS", 20)
    return contrastive_tasks


@pytest.fixture
def arguments(tasks, tmp_path):
    """Ten debates of two topics, nine arguments each, the longer one preferred; one argument is too long."""
    rows = []
    for debate, side in itertools.product("abcdefghij", ("yes", "no")):
        texts = [f"{debate} {side} " + "word " * (5 + count) for count in range(9)]
        texts[-1] += "word " * (200 if debate == "a" else 0)
        rows += [
            {"topic": f"{debate}_{side}", "prompt": f"{debate}?", "gold": "chosen", "chosen": longer, "rejected": other}
            for other, longer in itertools.combinations(texts, 2)
        ]
    rows.append(dict(rows[0], gold="tie"))
    path = tmp_path / "ukp.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return tasks.read_arguments(path)


def test_pairs_of_an_argument_that_does_not_fit_are_left_out(arguments):
    assert len(arguments.pairs) == 20 * 36 - 2 * 8
    assert max(len(row["chosen"][0]["content"]) for row in arguments.pairs) < 200


def test_no_argument_of_the_tests_is_trained_on(tasks, arguments, monkeypatch):
    parts = {}
    monkeypatch.setattr(tasks, "measure_arguments", lambda model, world, given: parts.update(given) or parts)
    for seed in range(3):
        task = tasks.make_ukp_task(arguments, seed)
        task.test(None)
        task.validate(None)
        trained = {row[side][0]["content"] for row in task.pairs for side in ("chosen", "rejected")}
        texts = {
            name: {arguments.texts[place][2] for place in arguments.sides[:, rows].flat} for name, rows in parts.items()
        }
        assert len(task.pairs) == 20
        assert not trained & (texts["in_distribution"] | texts["held_out"] | texts["validation"])
        debates = {name: {text[0] for text in found} for name, found in texts.items()}
        others = debates["held_out"] | debates["validation"]
        assert not others & (debates["in_distribution"] | {text[0] for text in trained})
        assert len(debates["held_out"]) == 4


def test_every_argument_is_scored_once_and_each_pair_measured_by_its_own(tasks, arguments, monkeypatch):
    seen = []

    def score(model, rows, **settings):
        sides = [[row[side][0]["content"] for row in rows] for side in ("chosen", "rejected")]
        seen.extend(sides[0] + [text for text, other in zip(*reversed(sides), strict=True) if text != other])
        # Right where the longer argument wins, but for the topics of one debate.
        return tuple(np.array([len(text) * (-1 if text[0] == "b" else 1) for text in side], float) for side in sides)

    monkeypatch.setattr(tasks, "score_pairs_from_path", score)
    debates = np.array([topic[0] for topic in arguments.topics])
    parts = {"wrong": np.flatnonzero(debates == "b"), "half": np.flatnonzero(np.isin(debates, ["b", "c"]))}
    assert tasks.measure_arguments(None, arguments, parts) == {"wrong": 0.0, "half": 0.5}
    assert set(Counter(seen).values()) == {1} and len(seen) == 36
