"""A reward model over the tiny language model."""

import pytest

from rmkit.models.reward_model import load_reward_model, load_tokenizer


@pytest.fixture
def loaded(tiny_base):
    """The model and its tokenizer."""
    tokenizer = load_tokenizer(tiny_base)
    return load_reward_model(tiny_base, tokenizer, seed=3), tokenizer
