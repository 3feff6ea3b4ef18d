import pytest

from rmkit.core.checks import InputError
from rmkit.data.schema import check_columns, parse_pair
from rmkit.data.sources import RowError


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def parse(row, columns=None):
    return parse_pair(row, columns or {}, "file:7", "file")


PAIR = {"id": "file:7", "prompt": [user("Q")], "chosen": [assistant("A")], "rejected": [assistant("B")],
        "source": "file"}


@pytest.mark.parametrize("row", [
    {"prompt": "Q", "chosen": "A", "rejected": "B"},
    {"prompt": [user("Q")], "chosen": [assistant("A")], "rejected": [assistant("B")]},
    {"prompt": [user("Q")], "chosen": "A", "rejected": [{**assistant("B"), "name": "model"}]},
    {"prompt": "Q", "chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]},
    {"chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]},
    {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    {"chosen": "Human: Q\n\nAssistant: A\n", "rejected": [user("Q"), assistant("B")]},
    {"prompt": "Human: Q\n\nAssistant:", "chosen": "A", "rejected": "B"},
    {"prompt": None, "id": None, "source": "", "gold_gap": None,
     "chosen": [user("Q"), assistant("A")], "rejected": [user("Q"), assistant("B")]},
], ids=lambda row: str(row)[:60])
def test_every_usual_shape_is_the_same_pair(row):
    assert parse(row) == PAIR


def test_several_turns():
    turns = [user("One"), assistant("Two\n\nmore"), user("Three: four")]
    text = "Human: One\n\nAssistant: Two\n\nmore\n\nHuman: Three: four\n\nAssistant:"
    for row in (
        {"prompt": text, "chosen": "A", "rejected": "B"},
        {"chosen": f"\n\n{text} A", "rejected": f"\n\n{text} B"},
        {"chosen": [*turns, assistant("A")], "rejected": [*turns, assistant("B")]},
    ):
        assert parse(row) == {**PAIR, "prompt": turns}


def test_messages_split_at_the_first_difference():
    chosen = [user("Q"), assistant("A"), user("And?"), assistant("More")]
    rejected = [user("Q"), assistant("B")]
    pair = parse({"chosen": chosen, "rejected": rejected})
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ([user("Q")], chosen[1:], rejected[1:])


def test_text_of_a_prompt_is_kept_as_it_stands():
    for text in (" leading space", "Human: hi", "Say:\n\nHuman: a\n\nAssistant:", "Assistant: x\n\nAssistant:"):
        assert parse({"prompt": text, "chosen": "A", "rejected": "B"})["prompt"] == [user(text)]


def test_columns_are_mapped():
    row = {"key": 12, "question": "Q", "better": "A", "worse": "B", "origin": "web", "gap": 2, "chosen": "not this"}
    columns = {"id": "key", "prompt": "question", "chosen": "better", "rejected": "worse", "source": "origin",
               "gold_gap": "gap"}
    assert parse(row, columns) == {**PAIR, "id": "12", "source": "web", "gold_gap": 2.0}


def test_an_unknown_column_of_ours_is_refused():
    check_columns({"prompt": "question"})
    with pytest.raises(InputError, match="columns: winner: expected one of id, prompt, chosen"):
        check_columns({"winner": "better"})


ROW = {"prompt": "Q", "chosen": "A", "rejected": "B"}
HUMAN = "\n\nHuman: Q\n\nAssistant: "


@pytest.mark.parametrize("row, reason", [
    ({}, "missing chosen"),
    ({**ROW, "chosen": None}, "missing chosen"),
    ({"prompt": "Q", "chosen": "A"}, "missing rejected"),
    ({**ROW, "chosen": " \n"}, "empty chosen"),
    ({**ROW, "rejected": []}, "empty rejected"),
    ({**ROW, "rejected": [assistant("")]}, "empty rejected"),
    ({**ROW, "prompt": " "}, "empty prompt"),
    ({**ROW, "prompt": []}, "empty prompt"),
    ({"chosen": HUMAN, "rejected": HUMAN + "B"}, "empty chosen"),
    ({"chosen": "", "rejected": "B"}, "empty chosen"),
    ({**ROW, "prompt": [user("Q")], "chosen": [user("Q")]}, "empty chosen"),
    ({**ROW, "rejected": "A "}, "chosen equal to rejected"),
    ({"chosen": HUMAN + "A", "rejected": HUMAN + "A"}, "chosen equal to rejected"),
    ({**ROW, "chosen": 3}, "wrong type"),
    ({**ROW, "chosen": True}, "wrong type"),
    ({**ROW, "chosen": {"role": "assistant", "content": "A"}}, "wrong type"),
    ({**ROW, "chosen": ["A"]}, "wrong type"),
    ({**ROW, "chosen": [{"role": "assistant"}]}, "wrong type"),
    ({**ROW, "chosen": [{"from": "gpt", "value": "A"}]}, "wrong type"),
    ({**ROW, "chosen": [{"role": "", "content": "A"}]}, "wrong type"),
    ({**ROW, "chosen": [{"role": "assistant", "content": ["A"]}]}, "wrong type"),
    ({**ROW, "prompt": 3.5}, "wrong type"),
    ({**ROW, "id": ["x"]}, "wrong type"),
    ({**ROW, "id": True}, "wrong type"),
    ({**ROW, "source": 1.5}, "wrong type"),
    ({**ROW, "gold_gap": "2"}, "wrong type"),
    ({**ROW, "gold_gap": float("nan")}, "wrong type"),
    ({**ROW, "gold_gap": 10**400}, "wrong type"),
    ({**ROW, "gold_gap": True}, "wrong type"),
    ({"chosen": "A", "rejected": "B"}, "missing prompt"),
    ({"chosen": HUMAN + "A", "rejected": "B"}, "missing prompt"),
    ({"chosen": HUMAN + "A", "rejected": "\n\nHuman: P\n\nAssistant: B"}, "prompts differ"),
    ({"chosen": HUMAN + "X\n\nHuman: R\n\nAssistant: A", "rejected": HUMAN + "Y\n\nHuman: R\n\nAssistant: B"},
     "prompts differ"),
    ({"chosen": HUMAN + "A", "rejected": HUMAN + "B\n\nHuman: R\n\nAssistant: C"}, "prompts differ"),
    ({"chosen": [user("Q"), assistant("A")], "rejected": [user("P"), assistant("B")]}, "prompts differ"),
    ({"chosen": [assistant("A")], "rejected": [assistant("B")]}, "prompts differ"),
    ({**ROW, "chosen": [user("P"), assistant("A")]}, "prompts differ"),
    ({"chosen": [user("Q"), user("A")], "rejected": [user("Q"), user("B")]}, "prompts differ"),
    ({"chosen": HUMAN + "A\n\nHuman: R", "rejected": HUMAN + "B"}, "no response at the end"),
    ({**ROW, "chosen": [assistant("A"), user("R")]}, "no response at the end"),
    ({**ROW, "chosen": "half \ud83d"}, "bad Unicode"),
    ({**ROW, "id": "half \ud83d"}, "bad Unicode"),
], ids=str)
def test_every_fault_has_its_reason(row, reason):
    with pytest.raises(RowError) as error:
        parse(row)
    assert error.value.reason == reason
