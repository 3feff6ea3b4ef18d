"""Features: the stated mean of hidden states, the same in any batch, computed once."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

from rmkit.core.checks import InputError
from rmkit.data.chat_template import ResponseTooLong, encode
from rmkit.ensembles import features
from rmkit.ensembles.features import extract_features, pool_surprise
from rmkit.models.reward_model import load_tokenizer
from rmkit.models.tiny import build_language_model, build_tokenizer


@pytest.fixture(scope="module")
def deep_base(tmp_path_factory, tiny_pairs):
    """A causal model with 4 layers: its middle and last but one differ."""
    return save_base(tmp_path_factory.mktemp("deep"), tiny_pairs, lambda tokenizer: build_language_model(
        tokenizer, hidden=32, layers=4))


@pytest.fixture(scope="module")
def encoder_base(tmp_path_factory, tiny_pairs):
    """A BERT with 3 layers."""
    torch.manual_seed(0)
    return save_base(tmp_path_factory.mktemp("encoder"), tiny_pairs, lambda tokenizer: BertModel(BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)))


def save_base(folder, pairs, build):
    texts = [row[side][-1]["content"] for row in pairs for side in ("prompt", "chosen", "rejected")]
    tokenizer = build_tokenizer(texts, vocabulary=400)
    tokenizer.save_pretrained(folder)
    build(tokenizer).save_pretrained(folder)
    return folder


def test_an_encoders_features_are_its_mean_states_over_the_response_read_alone(encoder_base, tiny_pairs):
    compare(encoder_base, tiny_pairs, AutoModel, lambda states, encoded: [
        states[2][encoded.response_start:].mean(0)  # of 3 layers, both the middle and the last but one
    ])


def test_a_causal_models_features_add_what_surprised_it(deep_base, tiny_pairs):
    def expect(states, encoded):
        surprise = [torch.zeros(32), torch.zeros(32)]
        for place in range(encoded.response_start, len(encoded.input_ids)):
            chances = head(states[-1][place - 1]).softmax(0)
            entropy = -sum(chance * chance.log() for chance in chances)
            excess = -chances[encoded.input_ids[place]].log() - entropy
            surprise[0] = surprise[0] + excess * states[0][place - 1]
            surprise[1] = surprise[1] + excess * states[-1][place - 1]
        return [states[2][encoded.response_start:].mean(0), states[3][encoded.response_start:].mean(0), *surprise]

    head = AutoModelForCausalLM.from_pretrained(deep_base).get_output_embeddings()
    compare(deep_base, tiny_pairs.select(range(6)), AutoModelForCausalLM, expect)


def compare(folder, pairs, kind, expect):
    found = extract_features(pairs, folder, max_tokens_per_batch=200)
    tokenizer, model = load_tokenizer(folder), kind.from_pretrained(folder).eval()
    for name in ("chosen", "rejected"):
        table = getattr(found, name)
        assert table.dtype == np.float32
        for number, row in enumerate(pairs):
            encoded = encode(tokenizer, row["prompt"], row[name], 512)
            with torch.no_grad():
                states = model(torch.tensor([encoded.input_ids]), output_hidden_states=True).hidden_states
                expected = torch.cat(expect([state[0] for state in states], encoded))
            np.testing.assert_allclose(table[number], expected, atol=1e-4)
    assert np.abs(found.chosen - found.rejected).max(axis=1).min() > 1e-3


def test_a_second_call_reads_the_cache_and_another_question_does_not(deep_base, tiny_pairs, tmp_path, monkeypatch):
    first = extract_features(tiny_pairs, deep_base, cache_dir=tmp_path)
    loaded = []
    genuine = features.load_backbone
    monkeypatch.setattr(features, "load_backbone", lambda *args, **named: loaded.append(1) or genuine(*args, **named))
    again = extract_features(tiny_pairs, deep_base, cache_dir=tmp_path)
    assert not loaded
    assert isinstance(again.chosen, np.memmap)
    np.testing.assert_array_equal(again.chosen, first.chosen)
    np.testing.assert_array_equal(again.rejected, first.rejected)
    np.testing.assert_array_equal(again.chosen, extract_features(tiny_pairs, deep_base).chosen)
    loaded.clear()
    extract_features(tiny_pairs, deep_base, max_length=100, cache_dir=tmp_path)
    extract_features(tiny_pairs.select(range(20)), deep_base, cache_dir=tmp_path)
    assert len(loaded) == 2
    assert len(list(tmp_path.glob("*.npy"))) == 3
    assert not list(tmp_path.glob("*.part"))


def test_a_run_that_was_killed_leaves_nothing_that_is_taken_for_a_cache(deep_base, tiny_pairs, tmp_path, monkeypatch):
    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(features, "pool_means", die)
        extract_features(tiny_pairs, deep_base, cache_dir=tmp_path)
    found = extract_features(tiny_pairs, deep_base, cache_dir=tmp_path)
    np.testing.assert_array_equal(found.chosen, extract_features(tiny_pairs, deep_base).chosen)


def test_refuses_a_response_that_does_not_fit_and_names_its_pair(deep_base, tiny_pairs):
    with pytest.raises(ResponseTooLong, match="pair p0"):
        extract_features(tiny_pairs, deep_base, max_length=4)


def test_refuses_no_pairs_no_model_an_encoder_decoder_and_broken_weights(deep_base, tiny_pairs, tmp_path):
    with pytest.raises(InputError, match="at least one pair"):
        extract_features(tiny_pairs.select([]), deep_base)
    with pytest.raises(InputError, match="nowhere"):
        extract_features(tiny_pairs, tmp_path / "nowhere")
    both = save_base(tmp_path / "t5", tiny_pairs, lambda tokenizer: T5Model(T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)))
    with pytest.raises(InputError, match="encoder-decoder"):
        extract_features(tiny_pairs, both)

    def build_broken(tokenizer):
        model = build_language_model(tokenizer, hidden=32, layers=2)
        model.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")
        return model

    broken = save_base(tmp_path / "broken", tiny_pairs, build_broken)
    with pytest.raises(InputError, match="finite"):
        extract_features(tiny_pairs, broken)


def test_a_tokenizer_that_outgrew_its_model_is_no_obstacle(tiny_pairs, tmp_path):
    folder = save_base(tmp_path, tiny_pairs, lambda tokenizer: build_language_model(tokenizer, hidden=32, layers=2))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.add_special_tokens({"pad_token": "<|a pad that the model has not seen|>"})
    tokenizer.save_pretrained(folder)
    assert np.isfinite(extract_features(tiny_pairs, folder).chosen).all()


@torch.no_grad()
def test_a_text_that_the_model_would_write_itself_has_no_surprise_on_average():
    head = torch.nn.Linear(6, 11, bias=False)
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(1, 20_001, 6, generator=generator)
    chances = torch.softmax(head(states[0]), dim=-1)
    drawn = torch.multinomial(chances[:-1], 1, generator=generator)[:, 0]
    tokens = torch.cat([torch.zeros(1, dtype=torch.long), drawn])[None]
    ones = torch.ones(1, 20_001)
    pooled = pool_surprise([torch.ones_like(states), states], head, tokens, ones)[0][0, 0] / 20_000
    uniform = torch.randint(11, tokens.shape, generator=generator)
    other = pool_surprise([torch.ones_like(states), states], head, uniform, ones)[0][0, 0] / 20_000
    assert abs(pooled) < 0.02 < 0.05 < other
