"""Tiny models and pairs that several rooms' tests share; everything is built in code."""

import os

import pytest
from datasets import Dataset, disable_progress_bars

os.environ.setdefault("OMP_NUM_THREADS", "1")
disable_progress_bars()

COLOURS = ("red", "green", "blue", "grey", "black", "white")
THINGS = ("stone", "river", "cloud", "tree", "lamp")


@pytest.fixture(scope="session")
def tiny_pairs():
    """24 pairs of differing lengths, with targets and margins; the chosen response ends politely."""
    rows = []
    for number in range(24):
        thing, colour = THINGS[number % 5], COLOURS[number % 6]
        detail = " ".join(f"{COLOURS[(number + k) % 6]} {THINGS[k % 5]}" for k in range(number % 7))
        rows.append({
            "id": f"p{number}",
            "prompt": [{"role": "user", "content": f"What colour is the {thing}? {detail}"}],
            "chosen": [{"role": "assistant", "content": f"The {thing} is {colour} {detail}, thank you."}],
            "rejected": [{"role": "assistant", "content": f"No {detail} {colour}."}],
            "source": "code",
            "target": 1.0 - 0.2 * (number % 4 == 0),
            "margin": 0.1 * (number % 5) - 0.1,
        })
    return Dataset.from_list(rows)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory, tiny_pairs):
    """The folder of a causal language model with 2 layers of 32, and of its tokenizer."""
    from rmkit.models.tiny import build_language_model, build_tokenizer

    folder = tmp_path_factory.mktemp("base")
    texts = [row[side][-1]["content"] for row in tiny_pairs for side in ("prompt", "chosen", "rejected")]
    tokenizer = build_tokenizer(texts, vocabulary=400)
    tokenizer.save_pretrained(folder)
    build_language_model(tokenizer, hidden=32, layers=2).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_samples():
    """10 prompts with 2 to 5 different responses each."""
    rows = []
    for number in range(10):
        thing, colours = THINGS[number % 5], [COLOURS[(number + k) % 6] for k in range(2 + number % 4)]
        rows.append({
            "prompt": [{"role": "user", "content": f"Is the {COLOURS[number % 6]} {thing} {COLOURS[number % 3]}?"}],
            "responses": [
                [{"role": "assistant", "content": f"It is {colour}{' and grey' * k}."}]
                for k, colour in enumerate(colours)
            ],
        })
    return Dataset.from_list(rows)


@pytest.fixture(scope="session")
def samples_file(tiny_samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "samples.parquet"
    tiny_samples.to_parquet(path)
    return str(path)


@pytest.fixture(scope="session")
def tiny_reward_model(tmp_path_factory, tiny_base):
    """The folder of a reward model on `tiny_base`, with a head by chance."""
    from rmkit.models.reward_model import load_reward_model, load_tokenizer

    folder = tmp_path_factory.mktemp("reward model")
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.save_pretrained(folder)
    load_reward_model(tiny_base, tokenizer, seed=0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def other_policy(tiny_base, tmp_path_factory):
    """The folder of a policy whose every weight differs a little from that of `tiny_base`."""
    import torch
    from transformers import AutoModelForCausalLM

    from rmkit.models.reward_model import load_tokenizer

    folder = tmp_path_factory.mktemp("other policy")
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    load_tokenizer(tiny_base).save_pretrained(folder)
    return folder
