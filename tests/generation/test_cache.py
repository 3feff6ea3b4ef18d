"""The cache on disk: what was finished is found again, what was torn is not."""

import json
import os

import pytest

from rmkit.core.checks import InputError
from rmkit.generation import Completion, Failed, Generator, Sampling, Token
from rmkit.generation.cache import open_cache

COMPLETION = Completion("zwölf\n\u2028", "stop", 3, None, (Token("z", -0.25, (("z", -0.25), ("", -1e-9))),))


class Counting(Generator):
    """Says the prompt again; fails where the prompt says so; dies after `lives` completions."""

    name = "counting"

    def __init__(self, lives=10**6):
        self.asked = []
        self.lives = lives

    def complete(self, requests):
        for number in reversed(range(len(requests))):
            request = requests[number]
            self.asked.append((request.prompt, request.seed))
            if len(self.asked) > self.lives:
                raise KeyboardInterrupt
            yield number, Failed("told to") if "fail" in request.prompt else Completion(
                f"{request.prompt} {request.seed}", "stop", 1, 1)


def generate(generator, prompts, cache, **settings):
    return generator.generate(prompts, **{"samples": 2, "sampling": Sampling(), "seed": 0, **settings}, cache=cache)


def test_completions_are_kept_and_two_processes_may_write_at_once(tmp_path):
    path = tmp_path / "deep" / "cache.jsonl"
    with open_cache(path) as one, open_cache(path) as two:
        one.add("a", COMPLETION)
        two.add("b", COMPLETION)
        one.add("c", COMPLETION)
    with open_cache(path) as cache:
        assert cache.completions == {"a": COMPLETION, "b": COMPLETION, "c": COMPLETION}


@pytest.mark.parametrize("lost", [1, 5, 40])
def test_a_torn_line_is_asked_again_and_spoils_no_other(tmp_path, lost):
    path = tmp_path / "cache.jsonl"
    with open_cache(path) as cache:
        for key in ("first", "second"):
            cache.add(key, COMPLETION)
    os.truncate(path, path.stat().st_size - lost)
    with open_cache(path) as cache:
        assert set(cache.completions) == ({"first", "second"} if lost == 1 else {"first"})
        cache.add("third", COMPLETION)
    with open_cache(path) as cache:
        assert set(cache.completions) - {"second"} == {"first", "third"}


@pytest.mark.parametrize("line", ["[]", "5", "{}", '{"key": "a"}', '{"key": "a", "completion": {"text": "b"}}', "\xff"])
def test_lines_of_another_kind_are_passed_over(tmp_path, line):
    path = tmp_path / "cache.jsonl"
    path.write_text(line + "\n", encoding="latin-1")
    with open_cache(path) as cache:
        assert cache.completions == {}


def test_only_what_is_missing_is_made(tmp_path):
    path = tmp_path / "cache.jsonl"
    first = Counting(lives=3)
    with pytest.raises(KeyboardInterrupt):
        generate(first, ["a", "b", "c"], path)
    second = Counting()
    found = generate(second, ["a", "b", "c"], path)
    assert len(second.asked) == 3 and not set(second.asked) & set(first.asked[:3])
    assert found == generate(Counting(), ["a", "b", "c"], None)
    third = Counting()
    assert generate(third, ["c", "a"], path, samples=1) == [found[2][:1], found[0][:1]] and not third.asked
    fourth = Counting()
    generate(fourth, ["a"], path, sampling=Sampling(temperature=0.5))
    assert len(fourth.asked) == 2


def test_failures_are_made_again(tmp_path):
    path = tmp_path / "cache.jsonl"
    for _ in range(2):
        generator = Counting()
        assert generate(generator, ["fail"], path) == [[Failed("told to")] * 2]
        assert len(generator.asked) == 2
    assert not [line for line in path.read_text().splitlines() if line and json.loads(line)]


def test_equal_prompts_are_asked_once(tmp_path):
    generator = Counting()
    found = generate(generator, ["a", "b", "a"], None)
    assert len(generator.asked) == 4 and found[0] == found[2] != found[1]


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cache"):
        generate(Counting(), ["a"], tmp_path)
