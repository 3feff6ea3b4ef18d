"""Reward models: loaded with a head and a pad token of their own, or refused."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification, BertModel

from rmkit.core.checks import InputError
from rmkit.models.reward_model import find_head, load_reward_model, load_tokenizer
from rmkit.models.scoring import score_pairs

MAX_LENGTH = 128


def test_checkpoint_is_standard(loaded, tmp_path):
    model, tokenizer = loaded
    model.save_pretrained(tmp_path)
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path).config
    assert (config.num_labels, config.problem_type) == (1, "regression")
    assert config.pad_token_id == tokenizer.pad_token_id


def test_seed_decides_the_head_and_nothing_else(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (load_reward_model(tiny_base, tokenizer, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    differing = [name for name in first if not torch.equal(first[name], other[name])]
    assert differing == ["score.weight"]
    assert torch.equal(first["score.weight"], again["score.weight"])


@pytest.mark.parametrize("pad", [None, "<|end|>"])
def test_pad_token_of_its_own(tiny_base, tmp_path, pad, tiny_pairs):
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.pad_token = pad
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.pad_token not in (None, loaded.eos_token)
    assert loaded.pad_token == "<|pad|>"  # the vocabulary's own; nothing is added
    assert len(loaded) == len(tokenizer)


def test_embedding_grows_with_an_added_pad_token(tiny_base, tiny_pairs, tmp_path):
    tokenizer = load_tokenizer(tiny_base)
    before = score_pairs(load_reward_model(tiny_base, tokenizer, seed=0), tokenizer, tiny_pairs, max_length=MAX_LENGTH)
    tokenizer.add_special_tokens({"pad_token": "[new pad]"})
    model = load_reward_model(tiny_base, tokenizer, seed=0)
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    after = score_pairs(model, tokenizer, tiny_pairs, max_length=MAX_LENGTH)
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_encoder_without_template(tiny_base, tiny_pairs, tmp_path):
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.chat_template is not None
    model = load_reward_model(tmp_path, tokenizer, seed=0)
    together = score_pairs(model, tokenizer, tiny_pairs, max_length=MAX_LENGTH)
    alone = score_pairs(model, tokenizer, tiny_pairs, max_length=MAX_LENGTH, max_tokens_per_batch=1)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert find_head(model) is model.classifier


def test_refusals(tiny_base, tiny_pairs, tmp_path):
    with pytest.raises(InputError, match="tokenizer"):
        load_tokenizer(tmp_path / "nowhere")
    tokenizer = load_tokenizer(tiny_base)
    with pytest.raises(InputError, match="model"):
        load_reward_model(tmp_path / "nowhere", tokenizer)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), num_labels=3, **size)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="one label"):
        load_reward_model(tmp_path, tokenizer)
