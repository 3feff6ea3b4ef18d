"""A server that fails in every way: every request has its result, and the API key is never shown."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from openai.types import Completion as TextAnswer
from openai.types.chat import ChatCompletion

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.generation import Completion, Failed, Request, Sampling, ServerGenerator, Token
from rmkit.generation.openai_server import read_answer
from rmkit.training.zero import free_port
from tests.generation.faulty_server import run_server

KEY = "sk-test-0123456789abcdef"
SAMPLING = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=32)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with run_server() as server:
        yield server


def connect(server, **settings):
    return ServerGenerator(server.url, "tiny", **{"max_retries": 2, "timeout": 1.0, **settings})


def ask(words):
    return [{"role": "user", "content": words}]


FAULTS = {  # what the server does, one word an attempt, and the reason of the failure
    "ok": None,
    "status ok": None,
    "half hangup ok": None,
    "slow drip ok": None,
    "status": "^status 503: .*too",
    "half": "^RemoteProtocolError",
    "hangup": "^RemoteProtocolError",
    "slow": "^ReadTimeout",
    "endless": "^DecodingError: an answer of more than 10000 bytes",
    "drip": "^ReadTimeout: an answer that is not complete",
    "echo": r"Bearer \[key\]",
    "far": r"Bearer \[key\]$",
    "parrot": "^the server's answer contains the API key",
    "cut": "cannot be read",
    "page": "cannot be read",
    "other": "cannot be read",
    "several": "cannot be read",
    "number": "cannot be read",
    "unfinished": "^the server ended it with finish_reason None",
    "filtered": "^the server ended it with finish_reason 'content_filter'",
    "moderated": "^status 403: .*flagged",
}
CHAT_FAULTS = {"silent": "^the server gave no text"}


@pytest.mark.parametrize("chat", [True, False])
def test_every_request_has_its_result(server, chat, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("rmkit.generation.openai_server.MAX_BODY_BYTES", 10_000)
    faults = FAULTS | CHAT_FAULTS if chat else FAULTS
    prompts = [ask(words) if chat else words for words in faults]
    cache = tmp_path / "completions.jsonl"
    generator = connect(server, concurrency=50)
    found = generator.generate(prompts, samples=2, sampling=SAMPLING, seed=3, cache=cache)
    seeds = [derive_seed(3, "sample", number) for number in range(2)]
    for (words, reason), outcomes in zip(faults.items(), found, strict=True):
        if reason is None:
            expected = [Completion(f"{words} | {seed}", "stop", 7, 3) for seed in seeds]
            assert outcomes == expected, words
        else:
            for outcome in outcomes:
                assert isinstance(outcome, Failed), words
                assert re.search(reason, outcome.reason), outcome.reason
                assert "\n" not in outcome.reason
    sound = [words for words, reason in faults.items() if reason is None]
    assert len([line for line in cache.read_text().splitlines() if line]) == 2 * len(sound)
    visible = [caplog.text, cache.read_text(), repr(found), repr(vars(generator)), repr(generator)]
    assert not any(KEY[:6] in text for text in visible)
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
    calls = len(server.bodies)
    again = generator.generate(prompts[:4], samples=2, sampling=SAMPLING, seed=3, cache=cache)
    assert again == found[:4] and len(server.bodies) == calls


def test_requests_say_all_that_was_asked_for(server):
    sampling = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=32, stop=("END",), top_logprobs=0)
    connect(server, extra_body={"top_k": -1}).generate([ask("ok"), "ok"], sampling=sampling, seed=3)
    common = {"model": "tiny", "temperature": 0.5, "top_p": 0.9, "max_tokens": 32, "stop": ["END"],
              "seed": derive_seed(3, "sample", 0), "top_k": -1}
    assert sorted(server.bodies, key=lambda one: one[0]) == [
        ("/v1/chat/completions", {**common, "messages": [{"role": "user", "content": "ok"}]}),
        ("/v1/completions", {**common, "prompt": "ok"}),
    ]


def test_log_probabilities_that_do_not_come_are_a_failure(server):
    ((outcome,),) = connect(server).generate([ask("ok")], sampling=Sampling(top_logprobs=2), seed=0)
    assert outcome == Failed("the server gave no log-probabilities")
    assert server.bodies[0][1]["logprobs"] is True and server.bodies[0][1]["top_logprobs"] == 2


def test_concurrency_is_bounded_and_used(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with run_server(pause=0.05) as server:
        connect(server, concurrency=3).generate([ask("ok")], samples=24, sampling=SAMPLING, seed=0)
        assert server.most == 3
        assert all(headers["Authorization"] == "Bearer EMPTY" for headers in server.headers)


@pytest.mark.parametrize("status", [401, 402, 404])
def test_a_status_that_holds_for_all_requests_ends_the_run(server, status, tmp_path):
    prompts = [ask("ok"), ask(f"fatal{status}"), *(ask(f"ok {number}") for number in range(40))]
    generator, path = connect(server, concurrency=1), tmp_path / "cache.jsonl"
    with pytest.raises(InputError, match=rf"server http.*got status {status}: bad key: Bearer \[key\]"):
        generator.generate(prompts, sampling=SAMPLING, seed=0, cache=path)
    assert len(server.bodies) < 10
    assert len([line for line in path.read_text().splitlines() if line]) == 1


def test_a_server_that_cannot_be_reached_ends_the_run():
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(InputError, match="got ConnectError: .*Start the server"):
        ServerGenerator(url, "tiny", max_retries=1).generate([ask("ok")], samples=500, sampling=SAMPLING, seed=0)


def test_closing_the_iterator_cancels_the_rest(server):
    generator = connect(server, concurrency=2, timeout=20.0)
    requests = [Request(ask(words), SAMPLING, 0) for words in ("ok", "slow", "slow slow")]
    outcomes = generator.complete(requests)
    started = time.monotonic()
    assert next(outcomes)[0] == 0
    outcomes.close()
    assert time.monotonic() - started < 5


def test_a_full_disk_ends_the_calls(server, tmp_path, monkeypatch):
    def fill(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(OSError, match="No space"):
        connect(server, concurrency=1).generate(
            [ask("ok"), *(ask(f"slow {number}") for number in range(9))], sampling=SAMPLING, seed=0,
            cache=tmp_path / "cache.jsonl",
        )
    calls = len(server.bodies)
    time.sleep(0.2)
    assert len(server.bodies) == calls <= 2


def test_works_where_an_event_loop_runs(server):
    async def generate():
        return connect(server).generate([ask("ok")], sampling=SAMPLING, seed=0)

    assert isinstance(asyncio.run(generate())[0][0], Completion)


RUN = """
import sys
from rmkit.generation import Sampling, ServerGenerator
generator = ServerGenerator(sys.argv[1], "tiny", concurrency=2)
prompts = [[{"role": "user", "content": f"ok {number}"}] for number in range(20)]
generator.generate(prompts, samples=2, sampling=Sampling(), seed=0, cache=sys.argv[2])
"""


def test_a_killed_run_does_not_pay_twice(tmp_path):
    cache = tmp_path / "completions.jsonl"
    with run_server(pause=0.1) as server:
        with subprocess.Popen([sys.executable, "-c", RUN, server.url, str(cache)], stderr=subprocess.DEVNULL,
                              env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}) as process:
            while server.paid < 11:
                assert process.poll() is None
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
        server.pause = 0
        prompts = [ask(f"ok {number}") for number in range(20)]
        generator = ServerGenerator(server.url, "tiny", concurrency=2)
        found = generator.generate(prompts, samples=2, sampling=Sampling(), seed=0, cache=cache)
        assert 40 <= server.paid <= 40 + 3  # those in flight, and one answered before its line was written
        seeds = [derive_seed(0, "sample", number) for number in range(2)]
        assert found == [
            [Completion(f"ok {number} | {seed}", "stop", 7, 3) for seed in seeds] for number in range(20)
        ]


def read(choice, top_logprobs, **settings):
    """What is read from the answer with this choice, a chat completion where it has a message."""
    kind, prompt = (ChatCompletion, ask("a")) if "message" in choice else (TextAnswer, "a")
    sampling = Sampling(top_logprobs=top_logprobs, **settings)
    return read_answer(kind.construct(choices=[{"finish_reason": "stop", **choice}]), Request(prompt, sampling, 0))


def test_log_probabilities_are_read_and_end_with_the_text():
    texts = ("Score", ": 4", " ok!", " more")
    content = [{"token": text, "logprob": -0.5, "bytes": [1],
                "top_logprobs": [{"token": text, "logprob": -0.5}, {"token": "x", "logprob": -2}]}
               for text in (*texts, "<|end|>")]
    tokens = tuple(Token(text, -0.5, ((text, -0.5), ("x", -2.0))) for text in texts[:3])
    expected = Completion("Score: 4 ok", "stop", None, None, tokens)
    for choice in (
        {"message": {"content": "Score: 4 ok! more"}, "finish_reason": "length", "logprobs": {"content": content}},
        {"text": "Score: 4 ok! more", "finish_reason": "length", "logprobs": {
            "tokens": list(texts), "token_logprobs": [-0.5] * 4,
            "top_logprobs": [{"x": -2, text: -0.5} for text in texts]}},
    ):
        assert read(choice, 2, stop=("!",)) == expected


@pytest.mark.parametrize("logprobs", [{"content": None}, {"content": [{"token": "a"}]}, 5, []])
@pytest.mark.parametrize("said", [{"text": "hi"}, {"message": {"content": "hi"}}])
def test_log_probabilities_that_were_not_asked_for_are_ignored(logprobs, said):
    assert read({**said, "logprobs": logprobs}, 0) == Completion("hi", "stop", None, None)


@pytest.mark.parametrize("logprobs", [
    {"tokens": ["a"], "token_logprobs": [], "top_logprobs": []}, {"tokens": ["a"], "token_logprobs": ["b"]}, 5,
    {"tokens": ["a"], "token_logprobs": [float("nan")], "top_logprobs": [{}]},
])
def test_log_probabilities_in_another_format_are_an_error(logprobs):
    with pytest.raises((ValueError, TypeError, AttributeError)):
        read({"text": "a", "logprobs": logprobs}, 1)


@pytest.mark.parametrize("base_url", ["localhost:8000", f"http://me:{KEY}@host/v1", f"http://host/v1?key={KEY}"])
def test_invalid_addresses_are_refused_without_being_shown(base_url):
    with pytest.raises(InputError, match="base_url") as error:
        ServerGenerator(base_url, "tiny")
    assert KEY not in str(error.value)


@pytest.mark.parametrize("key", [f"{KEY}\r\nX: y", f"{KEY} {KEY}", f"{KEY}é"])
def test_a_key_that_no_header_carries_is_refused_without_being_shown(monkeypatch, key):
    monkeypatch.setenv("ANOTHER_KEY", key)
    with pytest.raises(InputError, match="ANOTHER_KEY") as error:
        ServerGenerator("http://127.0.0.1:9/v1", "tiny", api_key_env="ANOTHER_KEY").generate(
            ["a"], sampling=SAMPLING, seed=0
        )
    assert KEY not in str(error.value)
