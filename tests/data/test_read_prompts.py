"""Prompts: each once, drawn by chance and not by order, those that cannot be answered set aside."""

import json

import pytest

from rmkit.core.checks import InputError
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.samples import read_prompts
from rmkit.data.synthetic import draw_pairs
from rmkit.data.synthetic.dataset import draw_prompts, read_request


@pytest.fixture
def read(tmp_path):
    """read(rows, **settings) -> (the prompts' texts, reasons of those set aside)."""

    def write_and_read(rows, **settings):
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with RejectedRows(tmp_path / "quarantine.jsonl") as quarantine:
            found = read_prompts(str(file), "train", quarantine, **settings)
        return found, dict(quarantine.reasons)

    return write_and_read


def test_equal_prompts_are_one_and_responses_are_left_out(read):
    pair = {"prompt": "Why?", "chosen": "So.", "rejected": "No.", "source": "code"}
    messages = [{"role": "user", "content": "Why?"}]
    rows, reasons = read([pair, {**pair, "chosen": "Thus."}, {"prompt": messages}, {"prompt": "Who?"}])
    assert rows == [{"prompt": messages, "source": "code"}, {"prompt": [{"role": "user", "content": "Who?"}]}]
    assert not reasons


def test_what_cannot_be_answered_is_set_aside(read):
    answered = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    rows, reasons = read([{"prompt": answered}, {"prompt": " "}, {"text": "Why?"}, {"prompt": 3}, {"prompt": "Who?"}])
    assert len(rows) == 1
    assert reasons == {"nothing to answer": 2, "missing prompt": 1, "wrong type": 1}
    with pytest.raises(InputError, match="expected a row with a prompt to answer"):
        read([{"prompt": answered}])


def test_which_are_drawn_depends_on_the_seed_and_not_on_the_order(read):
    rows = [{"prompt": f"What is {number}?"} for number in range(40)]

    def draw(rows, seed):
        found, _ = read(rows, count=10, seed=seed)
        return [row["prompt"][0]["content"] for row in found]

    first = draw(rows, 0)
    assert len(first) == 10 and first == sorted(first, key=lambda text: int(text[8:-1]))
    assert set(draw(rows[::-1], 0)) == set(first) != set(draw(rows, 1))
    assert len(read(rows, count=100)[0]) == 40


def test_gold_prompts_ask_for_their_requests_and_are_not_those_of_the_pairs():
    prompts = list(draw_prompts("new_topics", 30, seed=1))
    pairs = {row["prompt"] for row in draw_pairs("new_topics", 30, seed=1)}
    assert not pairs & {row["prompt"] for row in prompts} and prompts == list(draw_prompts("new_topics", 30, seed=1))
    for row in map(json.loads, map(json.dumps, prompts)):
        request = read_request(row["request"])
        assert all(theme in row["prompt"] for theme in request.themes) and request.tone in row["prompt"]
        assert isinstance(request.themes, tuple)
    with pytest.raises(InputError, match="split: expected one of"):
        list(draw_prompts("newer_topics", 1))
