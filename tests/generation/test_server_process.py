"""A server that is started by the user's command for each model, at its first request, and ended with the block."""

import subprocess
import sys
from pathlib import Path

import pytest

from rmkit.core.checks import InputError
from rmkit.generation import Completion, Sampling, ServerGenerator, managed_server
from rmkit.generation.server_process import is_ready
from rmkit.training.zero import free_port

SCRIPT = Path(__file__).parents[1] / "meta_rewarding" / "scripted_server.py"


@pytest.fixture
def port():
    return free_port()


def ask(port, model):
    generator = ServerGenerator(f"http://127.0.0.1:{port}/v1", model, max_retries=0)
    (outcome,), = generator.generate([[{"role": "user", "content": "Say."}]], sampling=Sampling(), seed=0)
    return outcome


def test_each_model_is_served_from_its_first_request_on(port, tmp_path, monkeypatch):
    started = []
    start = subprocess.Popen

    def note(words, **settings):
        if str(SCRIPT) in words:  # the openai client starts processes too
            started.append(words)
        return start(words, **settings)

    monkeypatch.setattr(subprocess, "Popen", note)
    command = f"{sys.executable} {SCRIPT} {{model}} {port}"
    with managed_server(command, startup_timeout=60, log=tmp_path / "log"):
        assert not started
        assert isinstance(ask(port, "a/b"), Completion) and isinstance(ask(port, "a/b"), Completion)
        assert isinstance(ask(port, "other"), Completion)  # a server of the first model would refuse
        assert [words[2] for words in started] == ["a/b", "other"]
        generator = ServerGenerator(f"http://127.0.0.1:{port}/v1", "third")
        assert list(generator.complete([])) == [] and len(started) == 2
    assert not is_ready(f"http://127.0.0.1:{port}/v1")
    with pytest.raises(InputError, match="ConnectError"):
        ask(port, "a/b")
    assert len(started) == 2


def test_a_server_that_is_there_already_is_not_taken_for_ours(port, tmp_path):
    command = f"{sys.executable} {SCRIPT} {{model}} {port}"
    with managed_server(command, startup_timeout=60, log=tmp_path / "log"):
        ask(port, "one")
        with managed_server(command, startup_timeout=60, log=tmp_path / "log"):
            with pytest.raises(InputError, match="nothing there before its command is run"):
                ask(port, "two")


def test_a_command_that_does_not_serve_is_refused(port, tmp_path):
    for command, match in (
        ("no-such-command {model}", "server command no-such-command: expected a command that can be run"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "got an end with exit code 3. See .*log"),
        (f"{sys.executable} -c 'import time; time.sleep(60)'", "got no answer in 0.2 s"),
    ):
        with pytest.raises(InputError, match=match):
            with managed_server(command, startup_timeout=0.2, log=tmp_path / "log"):
                ask(port, "m")
