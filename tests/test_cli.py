"""The command line: exit codes, one line for what is refused, help that lists the keys."""

import subprocess
import sys

import pytest

from rmkit.cli import COMMANDS, main


@pytest.mark.parametrize("words, match", [
    (["vot"], "rmkit: expected a command"),
    (["vote"], "expected a value for data, model_name_or_path, output_dir"),
    (["vote", "--data", "d", "--model_name_or_path", "m", "--output_dir", "o", "--membres", "3"],
     "Did you mean members?"),
    (["vote", "--config"], "--config: expected a YAML file"),
    (["run", "no.yaml"], "no.yaml: expected a readable YAML file"),
    (["evaluate", "--config=no.yaml"], "no.yaml: expected a readable YAML file"),
    (["repair", "--votes", "no/where", "--output_dir", "o"], "data no/where"),
    (["audit", "--votes", "no/where", "--output_dir", "o"], "votes no/where"),
    (["train", "--data", "d", "--model_name_or_path", "m", "--output_dir", "o"], "data d: expected"),
    (["evaluate", "--data", "d", "--models.a", "m", "--output_dir", "o"], "data d: expected"),
])
def test_what_is_refused_is_one_line_and_exit_code_2(words, match, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("rmkit: error: ") and printed.err.count("\n") == 1 and not printed.out
    assert match in printed.err
    assert not list(tmp_path.iterdir())


def test_help_lists_commands_and_keys(capsys):
    assert main([]) == main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(text.count(f"\n  {name} ") == 2 for name in COMMANDS)
    for name, purpose in COMMANDS.items():
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert purpose in text and "--output_dir (str, required)" in text
    main(["read", "-h"])
    assert "--label_noise.rate (float, required)" in capsys.readouterr().out
    main(["train", "-h"])
    assert "--learning_rate (float, default 1e-05)" in capsys.readouterr().out


def test_the_launchers_words_are_not_ours(capsys):
    assert main(["--local_rank=1", "vote", "--local-rank=0", "--help"]) == 0
    assert "rmkit vote" in capsys.readouterr().out


def test_an_interrupt_says_how_to_go_on(capsys, monkeypatch):
    def stop(words):
        raise KeyboardInterrupt

    monkeypatch.setattr("rmkit.cli.dispatch", stop)
    assert main(["run"]) == 130
    assert capsys.readouterr().err == "rmkit: stopped; the same command goes on from here\n"


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "rmkit", "rn"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and "Traceback" not in refused.stderr
