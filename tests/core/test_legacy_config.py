"""Configuration: every key and every value is checked, and a fault is told with its place."""

import random
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import yaml

from rmkit.commands.run import RunConfig, plan_run
from rmkit.core.checks import InputError, raise_input_error
from rmkit.core.legacy_config import as_dict, load_config, parse_overrides


@dataclass
class Noise:
    kind: Literal["uniform", "longer"]
    rate: float = 0.3

    def __post_init__(self):
        if self.rate > 1:
            raise_input_error("rate", "at most 1", self.rate, "Write 0.3 for 30 %.")


@dataclass
class Settings:
    data: str
    steps: int = 10
    share: float | Literal["estimated"] = 0.1
    noise: Noise | None = None
    names: dict[str, str] = field(default_factory=dict)
    strategy: str = "steps"
    more: dict[str, Any] = field(default_factory=dict)


def write(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def test_defaults_then_the_file_then_the_command_line(tmp_path):
    path = write(tmp_path, "data: pairs\nsteps: 5\nnoise: {kind: uniform, rate: 0.2}\nnames: {a: b}\n")
    words = ["--steps=7", "--noise.rate", "0.4", "--names.c", "d", "--more.deep.er", "-1.0e-5", "--more.flag"]
    config = load_config(Settings, path, words)
    assert config == Settings("pairs", 7, 0.1, Noise("uniform", 0.4), {"a": "b", "c": "d"}, "steps",
                              {"deep": {"er": -1e-5}, "flag": True})
    assert as_dict(config)["noise"] == {"kind": "uniform", "rate": 0.4}
    assert load_config(Settings, None, ["--data", "x", "--noise", "null", "--share", "estimated"]).noise is None


def test_only_true_and_false_are_truth_values(tmp_path):
    assert load_config(Settings, write(tmp_path, "data: d\nstrategy: no\n")).strategy == "no"
    assert load_config(Settings, None, ["--data", "on", "--strategy", "no"]).strategy == "no"
    assert parse_overrides(["--a", "True", "--b", "false"]) == {"a": True, "b": False}


@pytest.mark.parametrize("text, match", [
    ("data: d\nstesp: 3", "stesp: expected a known key, got an unknown one. Did you mean steps?"),
    ("data: d\nnoise: {kind: uniform, rte: 1}", "noise.rte|noise: rte.*Did you mean (noise.)?rate?"),
    ("data: d\nsteps: many", "steps: expected int, got 'many'"),
    ("data: d\nsteps: 1.5", "steps: expected int"),
    ("data: [d]", "data: expected str"),
    ("data: d\nnoise: {kind: odd}", "kind: expected one of uniform, longer, got 'odd'"),
    ("data: d\nnoise: uniform", "noise: expected"),
    ("data: d\nnoise: {rate: 0.1}", "noise: expected a value for kind"),
    ("data: d\nnoise: {kind: uniform, rate: 30}", "noise: rate: expected at most 1, got 30"),
    ("data: d\nnames: {a: 1}", "names: expected"),
    ("steps: 3", "expected a value for data, got none"),
    ("data: d\nsteps: 1\nsteps: 2", "settings.yaml:3: expected valid YAML, got key 'steps' is given twice"),
    ("data: d\nnames: {a: x, a: y}", "'a' is given twice"),
    ("1: d", "key 1 is not a word"),
    ("data: d\n  steps: 3", "settings.yaml:2: expected valid YAML"),
    ("- data", "expected keys with values"),
    ("just words", "expected keys with values"),
    ("data: 2024-99-99", "expected valid YAML"),
    ("data: !!int x", "expected valid YAML"),
    ("data: " + "[" * 5000, "expected valid YAML"),
])
def test_refusals(tmp_path, text, match):
    with pytest.raises(InputError, match=match):
        load_config(Settings, write(tmp_path, text))


@pytest.mark.parametrize("words, match", [
    (["data"], "command line: expected --key value, got 'data'"),
    (["--data", "d", "--noise.kid", "uniform"], "Did you mean (noise.)?kind"),
    (["--data", "2024-99-99"], None),
    (["--data.deep", "x"], "data: expected str"),
    (["--data", "d", "--noise.rate"], "rate: expected float, got True. Give the number."),
])
def test_words(words, match):
    if match is None:
        assert load_config(Settings, None, words).data == words[1]
        return
    with pytest.raises(InputError, match=match):
        load_config(Settings, None, words)


def test_a_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match="a readable YAML file"):
            load_config(Settings, path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("data: café".encode("latin-1"))
    with pytest.raises(InputError, match="a readable YAML file"):
        load_config(Settings, path)


RUN = """\
output_dir: out
max_length: 256
seed: 3
synthetic: {train: 300, hidden: 32}
read: {label_noise: {kind: uniform, rate: 0.3}, columns: {}}
vote: {members: 4, folds: 5, heads: {epochs: 3}}
repair: {recipe: validation, fractions: [0.1, 0.2], strength_scale: calibrated}
train: {learning_rate: 1.0e-3, report_to: none, save_strategy: no}
evaluate: {n_bootstrap: 100}
report: {suspicious: 5}
"""
ODD = ["", "0", "-1", "1e99", ".nan", ".inf", "null", "true", "no", "[]", "{}", "[1, [2]]", "{a: {b: c}}", "~", "'",
       '"', "é", "2024-99-99", "0b_", "!!int x", "&a [*a]", "*a", "%", "@", "\t", "validation", "-", "? x", "a: b: c"]


def mutate(text, rng):
    """One or two faults: a value, a letter or a line of the file is replaced, doubled or lost."""
    for _ in range(rng.randint(1, 2)):
        lines = text.split("\n")
        row = rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind == 0:
            key, _, _ = lines[row].partition(":")
            lines[row] = f"{key}: {rng.choice(ODD)}"
        elif kind == 1 and ": " in lines[row]:
            parts = lines[row].split(" ")
            place = rng.randrange(len(parts))
            parts[place] = rng.choice(ODD) + rng.choice(["", ",", "}"])
            lines[row] = " ".join(parts)
        elif kind == 2 and lines[row]:
            place = rng.randrange(len(lines[row]))
            letter = rng.choice(["", ":", "{", "}", " ", "x", "\x00", "-"])
            lines[row] = lines[row][:place] + letter + lines[row][place + 1:]
        elif kind == 3:
            lines.insert(rng.randrange(len(lines)), lines[row])
        else:
            del lines[row]
        text = "\n".join(lines)
    return text


def test_a_mutilated_file_is_refused_or_a_whole_plan(tmp_path):
    assert plan_run(load_config(RunConfig, write(tmp_path, RUN)))["vote"].args[0].members == 4
    rng = random.Random(0)
    outcomes = {"plan": 0, "refused": 0}
    for _ in range(200):
        path = write(tmp_path, mutate(RUN, rng))
        try:
            plan_run(load_config(RunConfig, path))
            outcomes["plan"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes
    assert yaml.safe_load(RUN)["seed"] == 3
