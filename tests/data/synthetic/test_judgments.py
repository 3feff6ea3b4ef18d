"""The gold world's judgments: what they claim, what it comes to, how often they and verdicts on them are wrong."""

import random

import pytest

from rmkit.data.synthetic import WEIGHTS, Request, check_attributes, gold_reward, judgments
from rmkit.data.synthetic.dataset import draw_response
from rmkit.data.synthetic.judgments import (
    CLAIM_ERROR_RATE,
    GRADES,
    POINTS,
    VERDICT_ERROR_RATE,
    add_points,
    corrupt_claims,
    draw_judgments,
    draw_verdicts,
    explain,
    find_claims,
    find_evidence,
    write_judgment,
    write_verdict,
)

REQUEST = Request(("camping", "baking"), count=2, ordered=True, tone="formal", bound="at most", length=16)
GOOD = "Kindly consider this. First, bring the tent early. Second, check the oven twice. Yours sincerely."
RIGHT = dict.fromkeys(WEIGHTS, 1.0)


def test_a_judgment_written_by_hand():
    text = GOOD.replace("oven", "piano").replace("Yours sincerely.", "Enjoy it!")
    claims = find_claims(REQUEST, text)
    assert claims == {**RIGHT, "content": 0.5, "tone": 0.5, "order": 0.0}
    assert add_points(claims) == 2 + 2 + 2 + 2 + 1  # 1.5 for the tone, rounded with the sum of 8.5
    assert write_judgment(claims, find_evidence(REQUEST, text)) == (
        "camping tent, baking none, content partly; formal, cheerful formal, tone partly; two, two, count right; "
        "at most 16, length right; asked, order wrong; distinct right\nScore: 9"
    )
    loose = Request(("moving",), count=6, ordered=False, tone="blunt", bound=None, length=0)
    assert find_evidence(loose, "Nothing.") == {
        "content": "moving none", "tone": "blunt, none", "count": "six, no", "length": "any", "order": "any",
        "distinct": "",
    }


def test_points_are_the_gold_reward_where_grades_say_all():
    rng, seen = random.Random(0), 0
    for number in range(300):
        request, row = draw_response(number, rng)
        scores = check_attributes(request, row["response"])
        points = add_points(find_claims(request, row["response"]))
        assert 0 <= points <= POINTS == 13
        if set(scores.values()) <= set(GRADES.values()):
            seen += 1
            assert abs(points - gold_reward(request, row["response"])) <= 0.5
    assert seen > 100


@pytest.mark.parametrize("rate", [0.0, CLAIM_ERROR_RATE, 1.0])
def test_as_many_claims_are_wrong_as_stated(rate):
    rng, wrong = random.Random(1), 0
    for _ in range(1000):
        changed = corrupt_claims(RIGHT, rng, rate)
        wrong += sum(changed[name] != 1.0 for name in WEIGHTS)
        assert set(changed.values()) <= set(GRADES.values())
    assert wrong / 6000 == pytest.approx(rate, abs=0.015)  # three standard deviations


def test_the_better_judgment_by_the_gold_reward_and_then_by_its_claims():
    text = GOOD.replace("oven", "piano")  # gold 10: content 2, order 0
    truth = find_claims(REQUEST, text)
    close, far = {**truth, "count": 0.5}, {**truth, "tone": 0.0}  # scores 9 and 7
    assert gold_reward(REQUEST, text) == add_points(truth) == 10
    swapped = {**truth, "count": 0.0, "length": 0.0, "content": 1.0, "distinct": 1.0}  # 8
    others = {**truth, "length": 0.0}  # 8 too, with one wrong claim instead of three
    names = {}
    for name, two in {"close": (close, far), "far": (far, close), "fewer": (swapped, others)}.items():
        verdicts = [write_verdict(REQUEST, text, two, random.Random(seed)) for seed in range(400)]
        names[name] = sum(verdict.endswith("Winner: Judgment A") for verdict in verdicts) / 400
    assert names["close"] == pytest.approx(1 - VERDICT_ERROR_RATE, abs=0.05)
    assert names["far"] == names["fewer"] == pytest.approx(VERDICT_ERROR_RATE, abs=0.05)
    own, end = write_verdict(REQUEST, text, (close, far), random.Random(0)).split("; fair ")
    assert own == explain(truth, find_evidence(REQUEST, text)) and end.startswith("10, A 9 off 1, B 7 off 3\nWinner: ")


def test_equal_judgments_are_a_coin(monkeypatch):
    monkeypatch.setattr(judgments, "VERDICT_ERROR_RATE", 0.0)
    two = (RIGHT, RIGHT)
    ends = [write_verdict(REQUEST, GOOD, two, random.Random(seed))[-1] for seed in range(400)]
    assert ends.count("A") / 400 == pytest.approx(0.5, abs=0.08)


def test_what_is_drawn_follows_from_the_seed_and_is_wrong_at_the_stated_rates():
    assert list(draw_judgments(20, seed=3)) == list(draw_judgments(20, seed=3)) != list(draw_judgments(20, seed=4))
    rows = list(draw_verdicts(300, seed=3))
    assert all(len(set(row["judgments"])) == 2 for row in rows)
    first = sum(row["verdict"].endswith("A") for row in rows) / 300
    assert first == pytest.approx(0.5, abs=0.09)  # no position is favoured
