"""Pairs of an iteration: rho, filters, weak pairs, both judges and judge pairs, from judgments written by hand."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.judges.report import COLUMNS
from rmkit.judges.results import read_judged
from rmkit.meta_rewarding.pairs import PairConfig, replay_pairs, stack_verdicts, write_pairs
from tests.meta_rewarding.judged_folder import speak, write_judged

RESPONSES = [["a" * 2000, "b" * 1500, "c" * 900, "d" * 1200, "e" * 2600], ["same", "same ", "other"], ["x", "yy"]]
SCORES = [[[4.5], [4.4], [4.2], [3.0], [2.0]], [[5.0], [1.0], [2.0]], [[3.0], [3.0]]]


@pytest.fixture
def judged(tmp_path):
    return write_judged(tmp_path / "judgments", RESPONSES, SCORES)


@pytest.fixture
def make(tmp_path):
    """make(**settings) -> the rows by id, and the record."""
    count = iter(range(99))

    def run(**settings):
        folder = write_pairs(PairConfig(output_dir=str(tmp_path / f"pairs {next(count)}"), **settings))
        written, again = replay_pairs(folder)
        assert written == again
        return {row["id"]: row for row in written}, read_record(folder)

    return run


def read_sides(row):
    return row["chosen"][0]["content"][0], row["rejected"][0]["content"][0]


def test_scores_texts_and_lengths_as_arrays(tmp_path):
    judged = read_judged(write_judged(tmp_path / "j", [["a", "bb"], ["c"]], [[[1, None], [2, 4]], [[None, None]]]))
    np.testing.assert_array_equal(judged.scores, [[[1, np.nan], [2, 4]], [[np.nan] * 2] * 2])
    np.testing.assert_array_equal(judged.average(), [[1, 3], [np.nan, np.nan]])
    np.testing.assert_array_equal(judged.average(least=2, k=1.0), [[np.nan, 2], [np.nan, np.nan]])
    np.testing.assert_array_equal(judged.lengths, [[1, 2], [1, np.nan]])
    assert judged.first.tolist() == [[True, True], [True, False]]
    assert judged.texts == {(0, 0, 0): "Score: 1", (0, 1, 0): "Score: 2", (0, 1, 1): "Score: 4"}


def test_comparisons_score_a_response_by_how_often_it_is_preferred(tmp_path):
    folder = tmp_path / "compared"
    write_judged(folder, [["a", "b", "c"]], [[[]] * 3])
    told = {("0", "1"): (1.0, 1.0), ("0", "2"): (1.0, 0.0), ("1", "2"): (0.5, None)}  # in the order given, and swapped
    lines = [
        dict.fromkeys(COLUMNS.names) | {"task": f"f:0/{one}/{other}", "sample": 0, "order": order, "score": score,
                                        "kind": "unparsed" if score is None else "judgment", "text": "Winner: ..."}
        for (one, other), scores in told.items() for order, score in zip(("given", "swapped"), scores, strict=True)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines, COLUMNS), folder / "judgments.parquet")
    judged = read_judged(folder)
    np.testing.assert_allclose(judged.scores, [[[3 / 4], [0.5 / 3], [1.5 / 3]]])
    assert not judged.texts and np.isnan(judged.rewards).all()


@pytest.mark.parametrize("rho, sides", [(0.0, "ae"), (0.1, "be"), (0.3, "ce"), (0.4, "ce")])
def test_rho_controls_length(make, judged, rho, sides):
    """METHODS T11, and the other two prompts: a repeated response is left out, and equal scores give no pair."""
    rows, record = make(language=judged, rho=rho)
    assert "".join(read_sides(rows["actor:f:0"])) == sides and list(rows) == ["actor:f:0", "actor:f:1"]
    assert [rows["actor:f:1"][side][0]["content"] for side in ("chosen", "rejected")] == ["same", "other"]
    assert "target" not in rows["actor:f:0"] and record["actor"]["left"] == {"no two scores": 1}
    assert record["rho"] == rho and rows["actor:f:0"]["source"] == "actor"


def test_rho_that_holds_length_and_the_filter(make, judged, tmp_path):
    short = write_judged(tmp_path / "short", [["x" * 450]], [[[1.0]]])
    _, record = make(language=judged, rho="hold", length_of=short)
    assert record["rho"] == 0.16  # 900 and 4 characters are chosen from 0.12 on
    rows, record = make(language=judged, max_response=1999)
    assert list(rows) == ["actor:f:1"] and record["actor"]["left"]["chosen too long"] == 1


def test_weak_pairs_by_the_members_strength(make, tmp_path):
    texts = [["a", "bb"], ["c", "dd"]]
    scores = [[[4.0, 4.0], [1.0, 1.0]], [[4.0, 4.0], [1.0, 1.0]]]
    rewards = [[[3.0, 1.0], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.7]]]
    folder = write_judged(tmp_path / "rewards", texts, scores, rewards)
    rows, record = make(reward=folder, weak="soft", threshold=0.5, margin_scale=0.5)
    first, second = rows["actor:f:0"], rows["actor:f:1"]
    assert first["target"] == 1 and first["margin"] == 1.0  # strength 2
    assert second["target"] == pytest.approx(1 / (1 + np.exp(0.1))) and second["margin"] == pytest.approx(-0.05)
    rows, record = make(reward=folder, weak="drop")
    assert list(rows) == ["actor:f:0"] and record["actor"]["left"] == {"weak": 1}


def test_two_judges_are_combined_and_have_to_judge_the_same(make, judged, tmp_path):
    values = [[[1.0], [1.0], [1.0], [1.0], [9.0]], [[1.0], [1.0], [1.0]], [[1.0], [2.0]]]
    other = write_judged(tmp_path / "rewards", RESPONSES, values, values)
    rows, _ = make(language=judged, reward=other, weights={"language": 0.0, "reward": 1.0})
    assert read_sides(rows["actor:f:0"])[0] == "e" and read_sides(rows["actor:f:2"])[0] == "y"
    rows, _ = make(language=judged, reward=other, weights={"language": 1.0, "reward": 0.0})
    assert read_sides(rows["actor:f:0"]) == ("a", "e")
    apart = write_judged(tmp_path / "apart", [["a", "b"]], [[[1.0], [2.0]]], [[[1.0], [2.0]]])
    with pytest.raises(InputError, match="judgments of the same responses"):
        make(language=judged, reward=apart)


def test_judge_pairs_are_the_best_and_the_worst_judgment(make, judged, tmp_path):
    shown = [{"role": "user", "content": "how good?"}]
    rows = [
        {"id": "f:0", "prompt": shown, "judgments": ["long " * 9, "mid", "bad"], "scores": [4.0, 3.0, 4.0],
         "verdicts": [[None, 1, 1], [-1, None, 1], [-1, -1, None]]},
        {"id": "f:1", "prompt": shown, "judgments": ["u", "v"], "scores": [1.0, 2.0],
         "verdicts": [[None, None], [None, None]]},
    ]
    (tmp_path / "battles").mkdir()
    (tmp_path / "battles/battles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    battles = str(tmp_path / "battles")
    found, record = make(language=judged, battles=battles)
    row = found["judge:f:0"]
    assert row["prompt"] == shown and row["chosen"] == speak("long " * 9) and row["rejected"] == speak("bad")
    assert record["judge"]["pairs"] == 1 and record["judge"]["no battle"] == 1
    assert record["judge"]["position_weights"] == {"first": 0.5, "second": 0.5}
    _, record = make(language=judged, battles=battles, max_judgment=10)
    assert record["judge"]["too long"] == 1
    _, record = make(language=judged, battles=battles, equal_scores=False)
    assert record["judge"]["equal scores"] == 1


def test_refusals(make, judged, tmp_path):
    for settings, match in (
        ({}, "language and reward: expected one judge's folder"),
        ({"language": "x", "rho": "hold"}, "rho and length_of"),
        ({"language": "x", "rho": 0.5}, "rho and grid"),
        ({"language": "x", "least": 0}, "least: expected"),
    ):
        with pytest.raises(InputError, match=match):
            PairConfig(output_dir="o", **settings)
    nothing = write_judged(tmp_path / "nothing", [["a", "b"]], [[[1.0], [1.0]]])
    with pytest.raises(InputError, match="a pair to learn from"):
        make(language=nothing)


def test_no_battles_are_refused():
    with pytest.raises(InputError, match="battles: expected at least one prompt whose judgments fought, got none"):
        stack_verdicts([])
