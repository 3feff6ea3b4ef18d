"""Configurations: every key and every value is checked, and an error names its place."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings as limits, strategies as st
from pydantic import Field

from rmkit.core.checks import InputError, raise_input_error
from rmkit.core.config import (
    as_dict, build_section, configuration, load_config, non_default_settings, option, output_settings, section,
    to_cli_args,
)
from rmkit.core.config_fields import format_field, list_entries


@configuration
class NoiseConfig:
    kind: Literal["uniform", "longer"] = option(help="Which labels are flipped.")
    rate: float = option(0.3, "Share of labels flipped.", ge=0, le=1)
    workers: int = option(1, "Processes.", affects_output=False)

    def __post_init__(self) -> None:
        if self.kind == "longer" and self.rate == 0:
            raise_input_error("rate", "a rate above 0 with kind longer", self.rate, "0.3 is usual.")


@configuration
class TrainConfig:
    data: str = option(help="Pairs.")
    steps: int = option(10, "Optimiser steps.", ge=1)
    fraction: Annotated[float, Field(ge=0, lt=1)] | Literal["estimated"] = option(0.1, "Share of labels changed.")
    limit: int | None = option(5, "Most checkpoints.", ge=2)
    rho: list[float | Literal["hold"]] = option([0.0, 0.5], "A value an iteration.", min_length=1)
    noise: NoiseConfig | None = option(None, "Noise to add.")
    names: dict[str, str] = option(default_factory=dict, help="Columns.")
    strategy: str = option("steps", "When to save.")
    push: bool = option(False, "Upload.", advanced=True)
    token: str | None = option(None, "Secret.", affects_output=False, repr=False)
    extra: dict[str, Any] = option(default_factory=dict, help="Anything.")


@configuration
class RunConfig:
    output_dir: str = option(help="Folder.")
    seed: int = option(0, "Seed.")
    train: dict[str, Any] = section(f"{__name__}:TrainConfig", "Keys of train.", fixed=("data",))
    drift: NoiseConfig = option(NoiseConfig(kind="uniform"), "Limits.", advanced=True)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def test_defaults_then_the_file_then_the_command_line(tmp_path):
    path = write(tmp_path, "data: pairs\nsteps: 5\nnoise: {kind: uniform, rate: 0.2}\nnames: {a: b}\n")
    words = ["--steps=7", "--noise.rate", "0.4", "--names.c", "d", "--extra.deep.er", "-1.0e-5", "--extra.flag",
             "--push"]
    assert load_config(TrainConfig, path, words) == TrainConfig(
        data="pairs", steps=7, noise=NoiseConfig(kind="uniform", rate=0.4), names={"a": "b", "c": "d"}, push=True,
        extra={"deep": {"er": -1e-5}, "flag": True},
    )


def test_yaml_is_version_1_2(tmp_path):
    path = write(tmp_path, "names: &base {a: x, b: 2001-99-99}\ndata: 2024-01-01\nstrategy: no\nfraction: 1e-5\n"
                           "extra:\n  <<: *base\n  a: on\n")
    config = load_config(TrainConfig, path, ["--names.a", "changed"])
    assert (config.data, config.strategy, config.fraction) == ("2024-01-01", "no", 1e-5)
    assert config.extra == {"a": "on", "b": "2001-99-99"} and config.names == {"a": "changed", "b": "2001-99-99"}


def test_null_is_a_value_where_the_type_has_it_and_otherwise_restores_the_default(tmp_path):
    path = write(tmp_path, "data: d\nsteps: 5\nlimit: 3\nnoise: {kind: longer}\nextra: {a: 1}\n")
    words = ["--steps", "null", "--limit", "null", "--extra", "null", "--extra.b", "2", "--noise=null"]
    assert load_config(TrainConfig, path, words) == TrainConfig(data="d", limit=None, extra={"b": 2})
    words = ["--output_dir", "o", "--drift.kind", "longer", "--drift", "null"]
    assert load_config(RunConfig, None, words).drift.kind == "uniform"


@pytest.mark.parametrize("text, message", [
    ("data: d\nstesp: 3", "stesp: expected a known key, got an unknown one. Did you mean steps?"),
    ("data: d\nworkers: 3", "workers: expected a known key, got an unknown one. Did you mean noise.workers?"),
    ("data: d\nnoise: {kind: uniform, rte: 1}", "noise.rte: expected a known key, got an unknown one. "
                                                "Did you mean noise.rate?"),
    ("data: d\nsteps: many", "steps: expected int >= 1, got 'many'. Optimiser steps."),
    ("data: d\nsteps: 0", "steps: expected int >= 1, got 0. Optimiser steps."),
    ("data: d\nsteps: true", "steps: expected int >= 1, got True. Give the number."),
    ("data: d\nlimit: 1", "limit: expected int >= 2 or null, got 1. Most checkpoints."),
    ("data: d\nfraction: .nan", "fraction: expected float >= 0 and < 1 or estimated, got nan."),
    ("data: d\nrho: [true]", "rho: expected list of float or hold of length >= 1, got [True]. Give the number."),
    ("data: d\nrho: []", "rho: expected list of float or hold of length >= 1, got []."),
    ("data: [d]", "data: expected str, got ['d']. Pairs."),
    ("data: d\nnoise: {kind: odd}", "noise.kind: expected one of uniform, longer, got 'odd'."),
    ("data: d\nnoise: uniform", "noise: expected mapping or null, got 'uniform'. Noise to add."),
    ("data: d\nnoise: {rate: 0.1}", "noise.kind: expected a value, got none. Set it in the file or as --key value."),
    ("data: d\nnoise: {kind: longer, rate: 0}", "noise.rate: expected a rate above 0 with kind longer, got 0.0."),
    ("steps: 3", "data: expected a value, got none."),
])
def test_what_is_refused_is_named_with_its_place(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(TrainConfig, path)
    assert str(caught.value).startswith(f"{path}: {message}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("text, message", [
    ("data: d\nsteps: 1\nsteps: 2", ':3: expected valid YAML, got found duplicate key "steps"'),
    ("data: d\n  steps: 3", ":2: expected valid YAML"),
    ("1: d", ": expected valid YAML, got key 1 is not a word"),
    ("names: {[a]: x}", ": expected valid YAML, got key ('a',) is not a word"),
    ("- data", ": expected keys with values"),
    ("just words", ": expected keys with values"),
    ("data: !!int x", ": expected valid YAML"),
    ("data: &a [*a]", ": expected valid YAML"),
    ("data: " + "[" * 1500, ": expected valid YAML"),
])
def test_a_file_that_is_not_a_mapping_of_words(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(TrainConfig, path)
    assert str(caught.value).startswith(f"{path}{message}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("words, message", [
    (["data"], "command line: expected --key value, got 'data'"),
    (["--data", "d", "--noise.kid", "uniform"], "command line: noise.kid: expected a known key"),
    (["--data.deep", "x"], "command line: data: expected str, got {'deep': 'x'}"),
    (["--noise.kind", "uniform", "--noise.rate"], "command line: noise.rate: expected float >= 0 and <= 1, got True."),
    ([], "command line: data: expected a value"),
])
def test_words_that_are_refused(words, message):
    with pytest.raises(InputError) as caught:
        load_config(TrainConfig, None, words)
    assert str(caught.value).startswith(message)


def test_an_error_names_the_file_or_the_command_line(tmp_path):
    path = write(tmp_path, "steps: 0\nlimit: 3\n")
    for words, where in ((["--limit", "1", "--data", "d", "--steps", "2"], "command line: limit"),
                         (["--data", "d"], f"{path}: steps"), (["--limit", "2"], f"{path} and command line: data")):
        with pytest.raises(InputError) as caught:
            load_config(TrainConfig, path, words)
        assert str(caught.value).startswith(where)


def test_a_file_that_cannot_be_read(tmp_path):
    path = write(tmp_path, "data: d")
    with pytest.raises(InputError, match="setings.yaml: expected a readable YAML file.*Did you mean .*settings.yaml"):
        load_config(TrainConfig, tmp_path / "setings.yaml")
    path.write_bytes("data: café".encode("latin-1"))
    for unreadable in (path, tmp_path, tmp_path / "no" / "file.yaml"):
        with pytest.raises(InputError, match="a readable YAML file.*Check the path"):
            load_config(TrainConfig, unreadable)


def test_python_callers_get_the_same_errors():
    config = TrainConfig(data=Path("a") / "b", noise={"kind": "uniform", "rate": 0.5})
    assert config.data == "a/b" and config.noise == NoiseConfig(kind="uniform", rate=0.5)
    for settings, message in (({"stesp": 1}, "stesp: expected a known key"), ({}, "data: expected a value"),
                              ({"data": "d", "noise": {"kind": "uniform", "rate": 3}}, "noise.rate: expected float"),
                              ({"data": "d", "steps": True}, "steps: expected int >= 1, got True")):
        with pytest.raises(InputError) as caught:
            TrainConfig(**settings)
        assert str(caught.value).startswith(message)
    assert TrainConfig(data="d").rho is not TrainConfig(data="d").rho


def test_sections_hold_another_configurations_keys():
    config = load_config(RunConfig, None, ["--output_dir", "o", "--train.steps", "3", "--train.noise.kind", "longer"])
    train = build_section(TrainConfig, config.train, {"seed": 1, "strategy": "epoch"}, "train", data="pairs")
    assert train == TrainConfig(data="pairs", steps=3, strategy="epoch", noise=NoiseConfig(kind="longer"))
    unknown = "train.stesp: expected a known key, got an unknown one. Did you mean train.steps?"
    for settings, message in (({"stesp": 1}, unknown),
                              ({"noise": {"rte": 1}}, "train.noise.rte: expected a known key"),
                              ({"data": "x"}, "train.data: expected no value, as RunConfig sets it, got 'x'")):
        with pytest.raises(InputError) as caught:
            RunConfig(output_dir="o", train=settings)
        assert str(caught.value).startswith(message)
    with pytest.raises(InputError, match="train.data: expected no value, as it is set already"):
        build_section(TrainConfig, {"data": "x"}, {}, "train", data="pairs")
    with pytest.raises(InputError, match="^train.steps: expected int >= 1, got 0"):
        build_section(TrainConfig, {"steps": 0}, {}, "train", data="pairs")


def test_entries_are_dotted_and_leave_out_what_a_section_fixes():
    entries = {entry.name: entry for entry in list_entries(RunConfig)}
    assert "train.noise.rate" in entries and "train.data" not in entries
    assert entries["train.push"].advanced and entries["drift.rate"].advanced and not entries["train.steps"].advanced
    assert format_field(entries["train.limit"].field) == "int >= 2 or null"


def test_output_settings_leave_out_what_has_no_effect():
    config = RunConfig(output_dir="o", train={"token": "x", "noise": {"kind": "longer", "workers": 3}})
    assert output_settings(config) == {
        "output_dir": "o", "seed": 0, "train": {"noise": {"kind": "longer"}}, "drift": {"kind": "uniform", "rate": 0.3},
    }
    assert as_dict(config)["drift"]["workers"] == 1


def test_secrets_are_not_passed_on():
    config = TrainConfig(data="d", token="secret")
    assert non_default_settings(config) == {"data": "d"} and "secret" not in f"{config} {to_cli_args(config)}"


WORDS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(st.none() | st.booleans() | NUMBERS | WORDS,
                     lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner), max_leaves=5)


@limits(deadline=None)
@given(st.builds(
    TrainConfig, data=WORDS, steps=st.integers(1), fraction=st.floats(0, 1, exclude_max=True) | st.just("estimated"),
    limit=st.none() | st.integers(2), rho=st.lists(st.floats(-1e9, 1e9) | st.just("hold"), min_size=1),
    noise=st.none() | st.builds(NoiseConfig, kind=st.just("uniform"), rate=st.floats(0, 1)),
    names=st.dictionaries(WORDS, WORDS), strategy=WORDS, push=st.booleans(), extra=st.dictionaries(WORDS, PLAIN),
))
def test_command_line_words_give_the_same_configuration(config):
    assert load_config(TrainConfig, None, to_cli_args(config)) == config


@limits(deadline=None)
@given(st.lists(st.sampled_from("data: steps {} [] , \n - ? & * a ! !! | > % @ ' \" # << !!int \t 0b_".split(" "))
                | st.characters(exclude_categories=["Cs"])).map(" ".join))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode())
    for arguments in ((path,), (None, [f"--data={text}"])):
        try:
            load_config(TrainConfig, *arguments)
        except InputError as error:
            assert "\n" not in str(error)
