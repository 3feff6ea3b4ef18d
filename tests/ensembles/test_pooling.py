"""Pooling against a loop over the tokens."""

import pytest
import torch
from torch import nn

from rmkit.ensembles.features import pool_means, pool_surprise

LENGTHS, STARTS = (9, 5, 3), (4, 2, 0)  # the last sequence is a response from its first token on
HIDDEN, VOCABULARY = 6, 11


@pytest.fixture
def batch():
    """Hidden states of 4 layers and the embeddings, token ids, and which of them belong to a response."""
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(3, max(LENGTHS), HIDDEN, generator=generator) for _ in range(5)]
    tokens = torch.randint(VOCABULARY, (3, max(LENGTHS)), generator=generator)
    response = torch.zeros(3, max(LENGTHS))
    for row, (start, length) in enumerate(zip(STARTS, LENGTHS, strict=True)):
        response[row, start:length] = 1
    return states, tokens, response


@pytest.fixture
def head():
    torch.manual_seed(1)
    return nn.Linear(HIDDEN, VOCABULARY, bias=False)


def test_means_are_those_of_the_responses_tokens(batch):
    states, _, response = batch
    middle, last_but_one = pool_means(states, response)
    for row, (start, length) in enumerate(zip(STARTS, LENGTHS, strict=True)):
        torch.testing.assert_close(middle[row], states[2][row, start:length].mean(0))
        torch.testing.assert_close(last_but_one[row], states[3][row, start:length].mean(0))
    assert len(pool_means(states[:4], response)) == 1  # of 3 layers both are the second


@torch.no_grad()
def test_surprise_is_the_sum_over_tokens_of_excess_surprise_times_the_state_that_predicted_it(batch, head):
    states, tokens, response = batch
    found = pool_surprise(states, head, tokens, response)
    for row, (start, length) in enumerate(zip(STARTS, LENGTHS, strict=True)):
        expected = torch.zeros(2, HIDDEN)
        for place in range(max(start, 1), length):
            chances = torch.softmax(head(states[-1][row, place - 1]), dim=0)
            entropy = -sum(chance * torch.log(chance) for chance in chances)
            excess = -torch.log(chances[tokens[row, place]]) - entropy
            expected[0] += excess * states[0][row, place - 1]
            expected[1] += excess * states[-1][row, place - 1]
        for layer in range(2):
            torch.testing.assert_close(found[layer][row], expected[layer])


@torch.no_grad()
def test_a_text_that_the_model_would_write_itself_has_no_surprise_on_average(head):
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(1, 20_001, HIDDEN, generator=generator)
    chances = torch.softmax(head(states[0]), dim=-1)
    drawn = torch.multinomial(chances[:-1], 1, generator=generator)[:, 0]
    tokens = torch.cat([torch.zeros(1, dtype=torch.long), drawn])[None]
    ones = torch.ones(1, 20_001)
    pooled = pool_surprise([torch.ones_like(states), states], head, tokens, ones)[0][0, 0] / 20_000
    uniform = torch.randint(VOCABULARY, tokens.shape, generator=generator)
    other = pool_surprise([torch.ones_like(states), states], head, uniform, ones)[0][0, 0] / 20_000
    assert abs(pooled) < 0.02 < 0.05 < other
