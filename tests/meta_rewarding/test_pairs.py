"""Pairs of an iteration: rho, filters, weak pairs, both judges and judge pairs, from judgments written by hand."""

import json

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.judges.judged_samples import read_judged
from rmkit.meta_rewarding.pairs import replay_pairs, write_pairs
from rmkit.meta_rewarding.step_config import PairConfig
from tests.meta_rewarding.judged_folder import message, write_answers, write_judged

RESPONSES = [["a" * 2000, "b" * 1500, "c" * 900, "d" * 1200, "e" * 2600], ["same", "same ", "other"], ["x", "yy"]]
SCORES = [[[4.5], [4.4], [4.2], [3.0], [2.0]], [[5.0], [1.0], [2.0]], [[3.0], [3.0]]]


@pytest.fixture
def judged(tmp_path):
    return write_judged(tmp_path / "judgments", RESPONSES, SCORES)


@pytest.fixture
def make(tmp_path):
    """make(**settings) -> the rows by id, and the record."""
    numbers = iter(range(99))

    def run(**settings):
        folder = write_pairs(PairConfig(output_dir=str(tmp_path / f"pairs {next(numbers)}"), **settings))
        written, again = replay_pairs(folder)
        assert written == again
        return {row["id"]: row for row in written}, read_record(folder)

    return run


def first_letters(row):
    return "".join(row[side][0]["content"][0] for side in ("chosen", "rejected"))


def test_scores_texts_and_lengths_as_arrays(tmp_path):
    judged = read_judged(write_judged(tmp_path / "j", [["a", "bb"], ["c"]], [[[1, None], [2, 4]], [[None, None]]]))
    np.testing.assert_array_equal(judged.scores, [[[1, np.nan], [2, 4]], [[np.nan] * 2] * 2])
    np.testing.assert_array_equal(judged.average(), [[1, 3], [np.nan, np.nan]])
    np.testing.assert_array_equal(judged.average(2, 1.0), [[np.nan, 2], [np.nan, np.nan]])
    np.testing.assert_array_equal(judged.lengths, [[1, 2], [1, np.nan]])
    assert judged.first.tolist() == [[True, True], [True, False]]
    assert judged.texts == {(0, 0, 0): "Score: 1", (0, 1, 0): "Score: 2", (0, 1, 1): "Score: 4"}


def test_pairwise_judgments_score_a_response_by_how_often_it_is_preferred(tmp_path):
    folder = tmp_path / "compared"
    write_judged(folder, [["a", "b", "c"]], [[[]] * 3])
    verdicts = {(0, 1): (1.0, 1.0), (0, 2): (1.0, 0.0), (1, 2): (0.5, None)}  # in both orders
    write_answers(folder, [
        {"task": f"f:0/{first}/{second}", "sample": 0, "score": score,
         "kind": "unparsed" if score is None else "judgment", "text": "Winner: ..."}
        for (first, second), scores in verdicts.items() for score in scores
    ])
    judged = read_judged(folder)
    np.testing.assert_allclose(judged.scores, [[[3 / 4], [0.5 / 3], [1.5 / 3]]])
    assert not judged.texts and np.isnan(judged.rewards).all()


@pytest.mark.parametrize("rho, letters", [(0.0, "ae"), (0.1, "be"), (0.3, "ce"), (0.4, "ce")])
def test_rho_controls_length(make, judged, rho, letters):
    """METHODS T11; of the other prompts, one has a repeated response, which is left out, the other equal scores."""
    rows, record = make(llm_judgments=judged, rho=rho)
    assert first_letters(rows["actor:f:0"]) == letters and list(rows) == ["actor:f:0", "actor:f:1"]
    assert [rows["actor:f:1"][side][0]["content"] for side in ("chosen", "rejected")] == ["same", "other"]
    assert "target" not in rows["actor:f:0"] and rows["actor:f:0"]["source"] == "actor"
    assert record["rho"] == rho and record["actor"]["skipped"] == {"no two scores": 1}


def test_rho_that_matches_a_length_and_the_length_filter(make, judged, tmp_path):
    short = write_judged(tmp_path / "short", [["x" * 450]], [[[1.0]]])
    _, record = make(llm_judgments=judged, rho="match_length", length_reference=short)
    assert record["rho"] == 0.16  # 900 and 4 characters are chosen from 0.12 on
    rows, record = make(llm_judgments=judged, max_response=1999)
    assert list(rows) == ["actor:f:1"] and record["actor"]["skipped"]["chosen too long"] == 1


def test_weak_pairs_by_the_members_strength(make, tmp_path):
    texts = [["a", "bb"], ["c", "dd"]]
    scores = [[[4.0, 4.0], [1.0, 1.0]], [[4.0, 4.0], [1.0, 1.0]]]
    rewards = [[[3.0, 1.0], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.7]]]
    folder = write_judged(tmp_path / "rewards", texts, scores, rewards)
    rows, _ = make(reward_judgments=folder, weak_pairs="soft", weak_threshold=0.5, margin_scale=0.5)
    first, second = rows["actor:f:0"], rows["actor:f:1"]
    assert first["target"] == 1 and first["margin"] == 1.0  # strength 2
    assert second["target"] == pytest.approx(1 / (1 + np.exp(0.1))) and second["margin"] == pytest.approx(-0.05)
    rows, record = make(reward_judgments=folder, weak_pairs="drop")
    assert list(rows) == ["actor:f:0"] and record["actor"]["skipped"] == {"weak": 1}


def test_two_judges_are_combined_and_must_judge_the_same_responses(make, judged, tmp_path):
    values = [[[1.0], [1.0], [1.0], [1.0], [9.0]], [[1.0], [1.0], [1.0]], [[1.0], [2.0]]]
    both = {"llm_judgments": judged, "reward_judgments": write_judged(tmp_path / "rm", RESPONSES, values, values)}
    rows, _ = make(**both, weights={"llm": 0.0, "reward_model": 1.0})
    assert first_letters(rows["actor:f:0"])[0] == "e" and first_letters(rows["actor:f:2"])[0] == "y"
    rows, _ = make(**both, weights={"llm": 1.0, "reward_model": 0.0})
    assert first_letters(rows["actor:f:0"]) == "ae"
    different = write_judged(tmp_path / "different", [["a", "b"]], [[[1.0], [2.0]]], [[[1.0], [2.0]]])
    with pytest.raises(InputError, match="judgments of the same responses"):
        make(llm_judgments=judged, reward_judgments=different)


def test_judge_pairs_are_the_best_and_the_worst_judgment(make, judged, tmp_path):
    prompt = [{"role": "user", "content": "how good?"}]
    rows = [
        {"id": "f:0", "prompt": prompt, "judgments": ["long " * 9, "mid", "bad"], "scores": [4.0, 3.0, 4.0],
         "verdicts": [[None, 1, 1], [-1, None, 1], [-1, -1, None]]},
        {"id": "f:1", "prompt": prompt, "judgments": ["u", "v"], "scores": [1.0, 2.0],
         "verdicts": [[None, None], [None, None]]},
    ]
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/meta_judgments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    inputs = {"llm_judgments": judged, "meta_judgments": str(tmp_path / "meta")}
    pairs, record = make(**inputs)
    pair = pairs["judge:f:0"]
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == (prompt, message("long " * 9), message("bad"))
    assert record["judge"] == {"pairs": 1, "not compared": 1, "position_weights": {"first": 0.5, "second": 0.5}}
    for settings, reason in (({"max_judgment": 10}, "too long"), ({"allow_equal_scores": False}, "equal scores")):
        assert make(**inputs, **settings)[1]["judge"][reason] == 1


@pytest.mark.parametrize("settings, match", [
    ({}, "llm_judgments and reward_judgments: expected at least one"),
    ({"llm_judgments": "x", "rho": "match_length"}, "rho and length_reference"),
    ({"llm_judgments": "x", "rho": 0.5}, "rho and rho_grid"),
    ({"llm_judgments": "x", "min_judgments": 0}, "min_judgments: expected"),
])
def test_invalid_settings(settings, match):
    with pytest.raises(InputError, match=match):
        PairConfig(output_dir="o", **settings)


def test_no_pairs_are_an_error(make, tmp_path):
    with pytest.raises(InputError, match="pairs: expected at least one"):
        make(llm_judgments=write_judged(tmp_path / "equal", [["a", "b"]], [[[1.0], [1.0]]]))
