"""The attacks, and a generator that answers by a script."""

from pathlib import Path

import pytest
import yaml

from rmkit.generation import Completion, Generator

ATTACKS = yaml.safe_load(Path(__file__).with_name("attacks.yaml").read_text(encoding="utf-8"))


class ScriptedGenerator(Generator):
    """Completions by `script(text of the request's last message, request)`, a string or an Outcome."""

    name = "script"

    def __init__(self, script):
        self.script = script
        self.requests = []

    def complete(self, requests):
        self.requests += requests
        for number, request in enumerate(requests):
            answer = self.script(request.prompt[-1]["content"], request)
            yield number, Completion(answer, "stop", 100, 7) if isinstance(answer, str) else answer


@pytest.fixture(scope="session")
def attacks():
    """family -> attacks."""
    return ATTACKS


def pytest_generate_tests(metafunc):
    if "attack" in metafunc.fixturenames:
        named = [(f"{family} {place}", text) for family, texts in ATTACKS.items() for place, text in enumerate(texts)]
        metafunc.parametrize("attack", [text for _, text in named], ids=[name for name, _ in named])


@pytest.fixture(scope="session")
def scripted():
    """The class: scripted(script)."""
    return ScriptedGenerator
