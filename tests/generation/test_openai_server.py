"""A server that fails in every way: nothing is lost, nothing is invented, and the key stays where it is."""

import asyncio
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.generation import Completion, Failure, Request, Sampling, ServerGenerator, Token
from rmkit.generation.openai_server import Unreadable, read_answer, read_wait
from tests.generation.faulty_server import run_server, write_text

KEY = "sk-test-0123456789abcdef"
SAMPLING = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=32)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with run_server() as server:
        yield server


def connect(server, **settings):
    return ServerGenerator(server.url, "tiny", **{"backoff": 0.01, "attempts": 4, "timeout": 1.0, **settings})


def ask(words):
    return [{"role": "user", "content": words}]


FAULTS = {
    "ok": None,
    "status ok": None,
    "status half ok": None,
    "cut page hangup ok": None,
    "other several unfinished ok": None,
    "number echo ok": None,
    "slow ok": None,
    "drip ok": None,
    "status": "4 attempts, the last one: status 503: .*too",
    "half": "4 attempts.*RemoteProtocolError",
    "cut": "4 attempts.*cannot be read",
    "page": "4 attempts.*cannot be read",
    "other": "4 attempts.*choices: Field required",
    "several": "4 attempts.*choices: ",
    "unfinished": "4 attempts.*choices.0.finish_reason",
    "number": "4 attempts.*valid string",
    "hangup": "4 attempts.*RemoteProtocolError",
    "echo": r"4 attempts.*Bearer \[key\]",
    "parrot": "^the server's answer repeats the key",
    "far": r"4 attempts.*Bearer \[key\]$",
    "slow": "4 attempts.*no answer in 1 seconds",
    "drip": "4 attempts.*no answer in 1 seconds",
    "refused": "^status 400: .*no such field",
    "moderated": "^status 403: .*flagged",
    "filtered": "^the server ended it with finish_reason 'content_filter'",
}
CHAT_FAULTS = {"silent": "^the server gave no text"}


@pytest.mark.parametrize("chat", [True, False])
def test_nothing_is_lost_and_nothing_invented(server, chat, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    faults = FAULTS | CHAT_FAULTS if chat else FAULTS
    prompts = [ask(words) if chat else words for words in faults]
    cache = tmp_path / "completions.jsonl"
    generator = connect(server, concurrency=30)
    found = generator.generate(prompts, samples=2, sampling=SAMPLING, seed=3, cache=cache)
    seeds = [derive_seed(3, "sample", number) for number in range(2)]
    for (words, reason), outcomes in zip(faults.items(), found, strict=True):
        if reason is None:
            expected = [Completion(f"{words} | {seed}", "stop", 7, 3) for seed in seeds]
            assert outcomes == expected, words
        else:
            for outcome in outcomes:
                assert isinstance(outcome, Failure), words
                assert re.search(reason, outcome.reason), outcome.reason
                assert "\n" not in outcome.reason
    sound = [words for words, reason in faults.items() if reason is None]
    assert len([line for line in cache.read_text().splitlines() if line]) == 2 * len(sound)
    told = [caplog.text, cache.read_text(), repr(found), repr(vars(generator)), repr(generator)]
    assert not any(KEY[:6] in text for text in told)
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
    calls = len(server.bodies)
    again = generator.generate(prompts[:8], samples=2, sampling=SAMPLING, seed=3, cache=cache)
    assert again == found[:8] and len(server.bodies) == calls


def test_requests_say_all_that_was_asked_for(server):
    sampling = Sampling(temperature=0.5, top_p=0.9, max_new_tokens=32, stop=("END",), top_logprobs=0)
    connect(server, extra={"top_k": -1}).generate([ask("ok"), "ok"], sampling=sampling, seed=3)
    common = {"model": "tiny", "temperature": 0.5, "top_p": 0.9, "max_tokens": 32, "stop": ["END"],
              "seed": derive_seed(3, "sample", 0), "top_k": -1}
    assert sorted(server.bodies, key=lambda one: one[0]) == [
        ("/v1/chat/completions", {**common, "messages": [{"role": "user", "content": "ok"}]}),
        ("/v1/completions", {**common, "prompt": "ok"}),
    ]


def test_an_empty_answer_is_one_where_the_server_says_that_it_ended(server):
    ((outcome,),) = connect(server).generate([ask("empty")], sampling=SAMPLING, seed=0)
    assert outcome == Completion("", "stop", 7, 3)


def test_log_probabilities_that_do_not_come_are_a_failure(server):
    ((outcome,),) = connect(server).generate([ask("ok")], sampling=Sampling(top_logprobs=2), seed=0)
    assert outcome == Failure("the server gave no log-probabilities")
    assert server.bodies[0][1]["logprobs"] is True and server.bodies[0][1]["top_logprobs"] == 2


def test_concurrency_is_bounded_and_used(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with run_server(pause=0.05) as server:
        connect(server, concurrency=3).generate([ask("ok")], samples=24, sampling=SAMPLING, seed=0)
        assert server.most == 3
        assert all("Authorization" not in headers for headers in server.headers)


def test_a_server_that_asks_to_wait_is_waited_for(server):
    ((outcome,),) = connect(server).generate([ask("busy ok")], sampling=SAMPLING, seed=0)
    assert isinstance(outcome, Completion)
    assert 0.99 < server.times[1] - server.times[0] < 5


def test_waits_double(server):
    connect(server, attempts=5, backoff=0.1).generate([ask("status")], sampling=SAMPLING, seed=0)
    waits = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    for attempt, wait in enumerate(waits):
        assert 0.05 * 2**attempt <= wait < 0.1 * 2**attempt + 1


@pytest.mark.parametrize("header, seconds", [
    (None, 0), ("2.5", 2.5), ("-1", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
])
def test_waits_as_servers_write_them(header, seconds):
    assert read_wait(header) == seconds


def test_waits_until_a_date():
    header = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))
    assert read_wait(header) == pytest.approx(3600, abs=60)


def test_a_refused_key_ends_the_run_without_asking_on(server):
    found = connect(server, concurrency=2).generate(
        [ask("ok"), ask("nokey"), *(ask(f"ok {number}") for number in range(40))], sampling=SAMPLING, seed=0
    )
    assert found[1] == [Failure("status 401: bad key: Bearer [key]")]
    assert sum(isinstance(outcome, Failure) for outcome, in found[2:]) > 30
    for outcome, in found[2:]:
        assert isinstance(outcome, Completion) or outcome.reason.startswith("not asked for, since another request")
    assert len(server.bodies) < 10


def test_a_server_that_is_not_there_ends_the_run_soon():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    started = time.monotonic()
    generator = ServerGenerator(url, "tiny", attempts=3, backoff=0.2, concurrency=2)
    found = generator.generate([ask("ok")], samples=500, sampling=SAMPLING, seed=0)
    assert time.monotonic() - started < 10
    assert all("3 attempts, the last one: ConnectError" in outcome.reason for outcome in found[0])


def test_who_stops_reading_does_not_wait_for_the_rest(server):
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


def write_answer(choice, **others):
    return json.dumps({"choices": [choice], **others}).encode()


def test_log_probabilities_are_read_and_end_with_the_text():
    sampling = Sampling(top_logprobs=2, stop=("!",))
    content = [{"token": text, "logprob": -0.5, "bytes": [1],
                "top_logprobs": [{"token": text, "logprob": -0.5}, {"token": "x", "logprob": -2}]}
               for text in ("Score", ": 4", " ok!", " more", "<|end|>")]
    chat = write_answer({"message": {"content": "Score: 4 ok! more"}, "finish_reason": "length",
                         "logprobs": {"content": content}})
    tokens = tuple(Token(text, -0.5, ((text, -0.5), ("x", -2.0))) for text in ("Score", ": 4", " ok!"))
    expected = Completion("Score: 4 ok", "stop", None, None, tokens)
    assert read_answer(chat, Request(ask("a"), sampling, 0)) == expected
    text = write_answer({"text": "Score: 4 ok! more", "finish_reason": "length", "logprobs": {
        "tokens": ["Score", ": 4", " ok!", " more"], "token_logprobs": [-0.5] * 4,
        "top_logprobs": [{"x": -2, each: -0.5} for each in ("Score", ": 4", " ok!", " more")],
    }})
    assert read_answer(text, Request("a", sampling, 0)) == expected


@pytest.mark.parametrize("logprobs", [{"content": None}, {"content": [{"token": "a"}]}, 5, []])
@pytest.mark.parametrize("prompt", ["a", ask("a")])
def test_log_probabilities_that_were_not_asked_for_are_passed_over(logprobs, prompt):
    content = write_answer({"message": {"content": "hi"}, "text": "hi", "finish_reason": "stop", "logprobs": logprobs})
    assert read_answer(content, Request(prompt, Sampling(), 0)) == Completion("hi", "stop", None, None)


def test_null_for_log_probabilities_that_were_asked_for_is_no_reason_to_pay_again():
    content = write_answer({"message": {"content": "hi"}, "finish_reason": "stop", "logprobs": {"content": None}})
    found = read_answer(content, Request(ask("a"), Sampling(top_logprobs=1), 0))
    assert found == Failure("the server gave no log-probabilities")


@pytest.mark.parametrize("logprobs", [
    {"tokens": ["a"], "token_logprobs": [], "top_logprobs": []}, {"tokens": ["a"], "token_logprobs": ["b"]}, 5,
])
def test_log_probabilities_that_are_none(logprobs):
    content = write_answer({"text": "a", "finish_reason": "stop", "logprobs": logprobs})
    with pytest.raises(Unreadable, match="logprobs"):
        read_answer(content, Request("a", Sampling(top_logprobs=1), 0))


@pytest.mark.parametrize("settings, message", [
    ({"base_url": "localhost:8000"}, "base_url"), ({"base_url": f"http://me:{KEY}@host/v1"}, "base_url"),
    ({"base_url": f"http://host/v1?key={KEY}"}, "base_url"), ({"concurrency": 0}, "concurrency"),
    ({"attempts": 0}, "attempts"), ({"timeout": 0}, "timeout"), ({"backoff": -1}, "backoff"),
])
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message) as error:
        ServerGenerator(**{"base_url": "http://host/v1", "model": "tiny", **settings})
    assert KEY not in str(error.value)


@pytest.mark.parametrize("key", [f"{KEY}\r\nX: y", f"{KEY} {KEY}", f"{KEY}é"])
def test_a_key_that_no_header_carries_is_refused_unseen(monkeypatch, key):
    monkeypatch.setenv("ANOTHER_KEY", key)
    with pytest.raises(InputError, match="ANOTHER_KEY") as error:
        ServerGenerator("http://127.0.0.1:9/v1", "tiny", api_key_env="ANOTHER_KEY").generate(
            ["a"], sampling=SAMPLING, seed=0
        )
    assert KEY not in str(error.value)


def test_the_right_answer_tells_requests_apart():
    assert write_text({"prompt": "a", "seed": 1}) != write_text({"prompt": "a", "seed": 2})
