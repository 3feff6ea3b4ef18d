"""A real `transformers serve` on loopback: what it says is what the same model says in process."""

import os
import subprocess
import sys
import time

import httpx2
import pytest
from transformers.utils.import_utils import is_serve_available

from rmkit.generation import Completion, Failed, Sampling, ServerGenerator, load_generator
from rmkit.models.reward_model import load_tokenizer
from rmkit.training.zero import free_port

pytestmark = pytest.mark.skipif(not is_serve_available(), reason="transformers serve needs fastapi, uvicorn and openai")

START = "from transformers.cli.transformers import main; main()"
PROMPTS = [
    [{"role": "user", "content": "What colour is the stone?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And the cloud?"}],
    "The river is",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_base):
    """The tiny model, with sharper probabilities, and settings by which the server draws."""
    folder = tmp_path_factory.mktemp("served")
    generator = load_generator(tiny_base)
    generator.model.get_input_embeddings().weight.data.mul_(2.0)
    generator.model.generation_config.do_sample = True
    generator.model.save_pretrained(folder)
    load_tokenizer(tiny_base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def process(folder, tmp_path_factory):
    port = free_port()
    log = tmp_path_factory.mktemp("log") / "server.log"
    words = [sys.executable, "-c", START, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port),
             "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file, subprocess.Popen(words, env=environment, stdout=file, stderr=file) as process:
        process.url = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 180
            while True:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                try:
                    httpx2.get(f"{process.url}/health").raise_for_status()
                    break
                except httpx2.RequestError:
                    time.sleep(0.1)
            yield process
        finally:
            process.kill()


@pytest.fixture
def server(process, folder):
    return ServerGenerator(f"{process.url}/v1", str(folder), concurrency=4, max_retries=1, timeout=60.0)


def test_likeliest_tokens_are_those_in_process(server, folder):
    here = load_generator(folder)
    for length in (4, 12):
        sampling = Sampling(temperature=0, max_new_tokens=length)
        expected = here.generate(PROMPTS, sampling=sampling, seed=0)
        assert server.generate(PROMPTS, sampling=sampling, seed=0) == expected
        assert all(isinstance(outcome, Completion) for outcome, in expected)
    texts = [outcome.text for outcome, in expected]
    longest = max(range(3), key=lambda number: len(texts[number]))
    stop = texts[longest][3:5]
    stopped = Sampling(temperature=0, max_new_tokens=12, stop=(stop,))
    for generator in (server, here):
        ((outcome,),) = generator.generate([PROMPTS[longest]], sampling=stopped, seed=0)
        assert (outcome.text, outcome.finish) == (texts[longest].partition(stop)[0], "stop")


def test_samples_are_drawn_and_kept(server, tmp_path):
    cache = tmp_path / "completions.jsonl"
    found = server.generate(PROMPTS, samples=4, sampling=Sampling(max_new_tokens=10), seed=0, cache=cache)
    for outcomes in found:
        assert all(isinstance(outcome, Completion) and outcome.tokens <= 10 for outcome in outcomes)
        assert len({outcome.text for outcome in outcomes}) > 1
    assert server.generate(PROMPTS, samples=4, sampling=Sampling(max_new_tokens=10), seed=0, cache=cache) == found


def test_what_it_cannot_do_is_a_failure(server, process):
    ((outcome,),) = server.generate(PROMPTS[:1], sampling=Sampling(max_new_tokens=3, top_logprobs=2), seed=0)
    assert outcome == Failed("the server gave no log-probabilities")
    other = ServerGenerator(f"{process.url}/v1", "another", max_retries=0)
    ((outcome,),) = other.generate(PROMPTS[:1], sampling=Sampling(max_new_tokens=3), seed=0)
    assert outcome.reason.startswith("status 400: ") and "another" in outcome.reason
