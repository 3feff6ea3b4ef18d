"""README names what exists: its names import, its commands and their keys are known."""

import importlib
import re
from pathlib import Path

import pytest

from rmkit.cli import COMMANDS
from rmkit.core.config_fields import import_object, list_entries

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
INDEX = README.partition("## Paper index")[2].partition("\n## ")[0]
NAMES = sorted({*re.findall(r"\brmkit\.(\w+(?:\.\w+)*)", README), *re.findall(r"`(\w+(?:\.\w+)+)`", INDEX)})
CALLS = re.findall(r"\brmkit ([a-z][a-z-]*)((?: +[^\s`'#]+)*)", README.replace("\\\n", " "))
KEYS = {(command, key) for command, words in CALLS for key in re.findall(r" --([a-z_.]+)", words)}


@pytest.mark.parametrize("name", NAMES)
def test_names_import(name):
    module, _, last = f"rmkit.{name.removeprefix('rmkit.')}".rpartition(".")
    parent = importlib.import_module(module)
    assert hasattr(parent, last) or importlib.import_module(f"{module}.{last}")


@pytest.mark.parametrize("command, key", sorted(KEYS))
def test_keys_are_known(command, key):
    known = {entry.name for entry in list_entries(import_object(COMMANDS[command].config))} | {"config", "help"}
    assert key in known or key.rpartition(".")[0] in known  # a name chosen by the user, as in --models.NAME


def test_every_command_is_in_the_table():
    table = README.partition("| command | what it does | output |")[2].partition("\n\n")[0]
    assert COMMANDS.keys() - {"run"} <= set(re.findall(r"[a-z-]+", " ".join(re.findall(r"^\| (.*?) \|", table, re.M))))
