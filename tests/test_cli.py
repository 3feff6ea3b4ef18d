"""The command line: exit codes, one line for what is refused, help that lists the keys, and nothing slow."""

import subprocess
import sys
from typing import Any

import pytest

import rmkit
from rmkit import cli
from rmkit.core.config import configuration, option, section

HEAVY = ("torch", "transformers", "datasets", "numpy", "scipy", "sklearn", "deepspeed", "matplotlib")
CALLS: list[Any] = []


@configuration
class HeadsConfig:
    data: str = option(help="Features.")
    epochs: int = option(20, "Passes over the pairs.", ge=1)


@configuration
class ToyConfig:
    data: str = option(help="Pairs to score.")
    members: int = option(10, "Reward models that vote.", ge=2)
    dropout: float | None = option(None, "Dropout of " + "very " * 20 + "many layers.", advanced=True, ge=0, lt=1)
    heads: dict[str, Any] = section(f"{__name__}:HeadsConfig", "Keys of the heads.", fixed=("data",))


def toy(config: ToyConfig) -> None:
    CALLS.append(config)


@pytest.fixture(autouse=True)
def toy_commands(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    CALLS.clear()
    for name in ("vote", "run"):
        command = cli.Command("score every pair", f"{__name__}:toy", f"{__name__}:ToyConfig")
        monkeypatch.setitem(cli.COMMANDS, name, command)


def test_a_command_is_called_with_its_configuration(tmp_path):
    (tmp_path / "a.yaml").write_text("data: pairs\nmembers: 4\n")
    for words in (["vote", "--config", "a.yaml"], ["vote", "--heads.epochs=2", "--config=a.yaml"], ["run", "a.yaml"],
                  ["--local_rank=1", "run", "--local-rank=0", "--config", "a.yaml", "--members", "3"]):
        assert cli.main(words) == 0
    assert [(call.members, call.heads) for call in CALLS] == [(4, {}), (4, {"epochs": 2}), (4, {}), (3, {})]


@pytest.mark.parametrize("words, message", [
    (["vot"], "rmkit: expected a command, got 'vot'. Did you mean `rmkit vote`?"),
    (["xyzzy"], "rmkit: expected a command, got 'xyzzy'. See rmkit --help."),
    (["vote"], "command line: data: expected a value, got none."),
    (["vote", "--data", "d", "--membres", "3"], "Did you mean members?"),
    (["vote", "--data", "d", "--epochs", "3"], "Did you mean heads.epochs?"),
    (["vote", "a.yaml"], "command line: expected --key value, got 'a.yaml'"),
    (["vote", "--config"], "--config: expected a YAML file, got nothing"),
    (["run", "no.yaml"], "no.yaml: expected a readable YAML file"),
    (["vote", "--config=no.yaml"], "no.yaml: expected a readable YAML file"),
])
def test_what_is_refused_is_one_line_and_exit_code_2(words, message, capsys):
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("rmkit: error: ") and printed.err.count("\n") == 1 and not printed.out
    assert message in printed.err and not CALLS


def test_the_help_of_rmkit_lists_the_commands(capsys):
    assert cli.main([]) == cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(text.count(f"\n  {name} ") == 2 for name in cli.COMMANDS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rmkit {rmkit.__version__}\n"


def test_the_help_of_a_command_groups_its_keys(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")  # 80 is the least
    assert cli.main(["vote", "--help"]) == 0
    assert capsys.readouterr().out == """\
usage: rmkit vote [--config FILE.yaml] [--key value ...]

Score every pair.

required:
  --data (str, required)  Pairs to score.

keys:
  --members (int >= 2, default 10)  Reward models that vote.
  --heads (mapping, default {})  Keys of the heads.
  --heads.epochs (int >= 1, default 20)  Passes over the pairs.

advanced:
  --dropout (float >= 0 and < 1 or null, default null)  Dropout of very very
        very very very very very very very very very very very very very very
        very very very very many layers.

A file has the same keys, with mappings for the dots; null restores a default.
"""


def test_an_interrupt_says_how_to_go_on(capsys, monkeypatch):
    def stop(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "dispatch", stop)
    assert cli.main(["run"]) == 130
    assert capsys.readouterr().err == "rmkit: stopped; the same command goes on from here\n"


def test_a_reader_that_has_seen_enough():
    command = [sys.executable, "-u", "-m", "rmkit", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(60) == 0


@pytest.mark.parametrize("words, code", [
    *((f"{name} --help", 0) for name in cli.COMMANDS), ("run --vote.membres 3", 2), ("rn", 2), ("--version", 0),
])
def test_help_and_errors_come_at_once(words, code):
    """Within a second of processor time, and without the libraries that take seconds to import."""
    program = ("import sys, time; from rmkit.cli import main; code = main(sys.argv[1:]); "
               f"print([name for name in {HEAVY} if name in sys.modules], time.process_time()); sys.exit(code)")
    done = subprocess.run([sys.executable, "-c", program, *words.split()], capture_output=True, text=True, check=False,
                          timeout=60)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    imported, seconds = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert imported == "[]" and float(seconds) < 1


def test_public_names_are_imported_on_use():
    program = "import sys, rmkit; print([name for name in sys.modules if name.startswith('rmkit')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['rmkit']\n"
    assert rmkit.InputError.__name__ == "InputError" and set(rmkit.PUBLIC) < set(dir(rmkit))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rmkit.nothing
