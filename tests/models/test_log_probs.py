"""Likelihood: closed form, a slow reference, and no dependence on the batch."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rmkit.core.checks import InputError
from rmkit.data.chat_template import encode
from rmkit.models.log_probs import measure_log_probs
from rmkit.models.reward_model import load_tokenizer


@pytest.fixture
def tokenizer(tiny_base):
    return load_tokenizer(tiny_base)


@pytest.fixture
def model(tiny_base):
    return AutoModelForCausalLM.from_pretrained(tiny_base)


def test_a_uniform_model_finds_every_token_equally_likely(model, tokenizer, tiny_samples):
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    rows = list(tiny_samples)
    found = measure_log_probs(model, tokenizer, rows, max_length=128)
    for row, values in zip(rows, found, strict=True):
        texts = [response[0]["content"] for response in row["responses"]]
        tokens = [len(ids) + 1 for ids in tokenizer(texts)["input_ids"]]  # and the end token
        np.testing.assert_allclose(values, [-count * math.log(len(tokenizer)) for count in tokens], rtol=1e-6)


def test_the_slow_way_gives_the_same(model, tokenizer, tiny_samples):
    rows = list(tiny_samples)
    model.train()
    found = measure_log_probs(model, tokenizer, rows, max_length=128, max_tokens_per_batch=150)
    assert model.training
    for row, values in zip(rows, found, strict=True):
        for response, value in zip(row["responses"], values, strict=True):
            one = encode(tokenizer, row["prompt"], response, 128)
            with torch.no_grad():
                logprobs = model(torch.tensor([one.input_ids])).logits[0].log_softmax(-1)
            slow = sum(float(logprobs[place - 1, one.input_ids[place]])
                       for place in range(one.response_start, len(one.input_ids)))
            assert value == pytest.approx(slow, rel=1e-5)
            assert abs(value - float(logprobs[:-1].gather(1, torch.tensor(one.input_ids)[1:, None]).sum())) > 1


def test_a_response_that_does_not_fit_is_refused(model, tokenizer, tiny_samples):
    with pytest.raises(InputError, match="row 0: response: expected at most max_length 3"):
        measure_log_probs(model, tokenizer, list(tiny_samples), max_length=3)
