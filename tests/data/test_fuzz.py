"""Mutated rows: whatever is in a file, reading ends without a traceback and accounts for every line of it."""

import gzip
import json
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rmkit.core.checks import InputError
from rmkit.data.reading import Source, read_pairs
from rmkit.data.schema import parse_pair
from rmkit.data.sources import RowError, read_rows

ODD = [None, True, 0, -1.5, 10**400, "", " ", "\ud800", "\x00", [], {}, [None], [[]], {"role": "user"},
       [{"role": "assistant", "content": "Yes"}], [{"role": None, "content": "x"}], "Human: a\n\nAssistant: b",
       "\n\nAssistant:", "Human:", "x" * 5000, float("nan")]
KEYS = ["prompt", "chosen", "rejected", "source", "gold_gap", "extra"]


def make_row(generator, number):
    user, yes, no = {"role": "user", "content": f"Question {number}"}, "Yes, ünter", f"No {number}"
    sides = [[user, {"role": "assistant", "content": text}] for text in (yes, no)]
    text = f"\n\nHuman: Question {number}\n\nAssistant: "
    return generator.choice([
        {"prompt": user["content"], "chosen": yes, "rejected": no},
        {"prompt": [user], "chosen": sides[0][1:], "rejected": sides[1][1:], "source": "web"},
        {"chosen": sides[0], "rejected": sides[1]},
        {"chosen": text + yes, "rejected": text + no, "extra": [1, {"a": None}]},
        {"prompt": text[2:].rstrip(), "chosen": yes, "rejected": no},
    ])


def mutate(generator, row):
    """The row's line, as it is, with a value exchanged somewhere, or with its bytes damaged."""
    kind = generator.choice(["none", "value", "value", "inner", "delete", "bytes", "bytes", "cut"])
    if kind == "value":
        row[generator.choice(KEYS)] = generator.choice(ODD)
    if kind == "inner":
        for value in row.values():
            if isinstance(value, list) and isinstance(value[-1], dict):
                value[-1][generator.choice(["role", "content"])] = generator.choice(ODD)
    if kind == "delete":
        del row[generator.choice(list(row))]
    line = bytearray(json.dumps(row, ensure_ascii=generator.random() < 0.5).encode("utf-8", "surrogatepass"))
    if kind == "bytes":
        for _ in range(generator.randint(1, 4)):
            place = generator.randrange(len(line))
            line[place:place + generator.randint(0, 3)] = generator.randbytes(generator.randint(0, 3))
    if kind == "cut":
        del line[generator.randrange(len(line)):]
    return bytes(line)


def test_ten_thousand_mutated_rows_are_all_accounted_for(tmp_path, llama):
    generator = random.Random(0)
    content = b"\n".join(mutate(generator, make_row(generator, number)) for number in range(10_000))
    data = tmp_path / "mutated.jsonl.gz"
    data.write_bytes(gzip.compress(content))
    reading = read_pairs(
        [Source(str(data), "train", lambda prompt: "train")], tmp_path, columns={}, tokenizer=llama, max_length=400
    )
    lines = {number: line for number, line in enumerate(content.split(b"\n"), 1) if line.strip()}
    kept = [int(row.content["id"].removeprefix("mutated:")) for row in read_rows(str(tmp_path / "train.parquet"))]
    with (tmp_path / "quarantine.jsonl").open() as file:
        entries = [json.loads(entry) for entry in file]
    assert sorted(kept + [entry["line"] for entry in entries]) == sorted(lines)
    assert reading.rows_in == len(lines) == len(kept) + len(entries)
    assert len(kept) > 2000 and len(entries) > 2000
    for entry in entries:
        assert entry["file"] == str(data) and entry["reason"]
        assert entry["row"] == lines[entry["line"]].decode("utf-8", "backslashreplace").rstrip("\r\n")
    assert {"bad JSON", "bad UTF-8", "bad Unicode", "missing chosen", "empty rejected", "wrong type", "prompts differ",
            "over-long response"} <= set(reading.quarantined)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["role", "content"]) | st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from([*KEYS, "id"]), VALUES))
def test_any_object_is_a_pair_or_a_fault(row):
    try:
        pair = parse_pair(row, {}, "file:1", "file")
    except RowError as error:
        assert error.reason
        return
    assert set(pair) - {"gold_gap"} == {"id", "prompt", "chosen", "rejected", "source"}
    for part in ("prompt", "chosen", "rejected"):
        assert pair[part]
        for message in pair[part]:
            assert set(message) == {"role", "content"}
            assert all(isinstance(text, str) for text in message.values())
    assert pair["chosen"] != pair["rejected"]
    json.dumps(pair, ensure_ascii=False).encode()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), compress=st.booleans(), cut=st.integers(0, 20))
def test_any_bytes_are_rows_or_one_clear_error(tmp_path, content, compress, cut):
    good = b'{"prompt": "Q", "chosen": "A", "rejected": "B"}\n'
    data = tmp_path / "any.jsonl"
    packed = gzip.compress(good + content) if compress else good + content
    data.write_bytes(packed[:len(packed) - cut] if compress else packed)
    try:
        reading = read_pairs([Source(str(data), "train", lambda prompt: "train")], tmp_path, columns={})
    except InputError as error:
        assert "any.jsonl" in str(error)
        return
    assert reading.rows_in == reading.rows_out["train"] + sum(reading.quarantined.values())
