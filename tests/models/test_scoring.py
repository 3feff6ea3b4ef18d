"""Rewards: one number per response, the same however it is batched, packed, padded or loaded."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

from rmkit.core.checks import InputError
from rmkit.data.chat_template import ResponseTooLong, encode
from rmkit.models import scoring
from rmkit.models.reward_model import load_tokenizer
from rmkit.models.scoring import score_pairs, score_pairs_from_path, score_responses

MAX_LENGTH = 128


@pytest.fixture
def encoder(tiny_base):
    """One of two layers, of which packing is not known to be exact."""
    tokenizer = load_tokenizer(tiny_base)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    size["initializer_range"] = 0.3  # or all rewards are alike
    config = BertConfig(vocab_size=len(tokenizer), num_labels=1, pad_token_id=tokenizer.pad_token_id, **size)
    return BertForSequenceClassification(config), tokenizer


def make_rows(pairs, counts=(1, 8, 0, 3, 2)):
    """Prompts with so many responses each, of differing lengths, one of them there twice."""
    texts = [pair[side] for pair in pairs for side in ("chosen", "rejected")]
    rows = [{"prompt": pairs[number]["prompt"], "responses": texts[number:number + count]}
            for number, count in enumerate(counts)]
    rows[1]["responses"][3] = rows[1]["responses"][0]
    return Dataset.from_list(rows)


def score_slowly(model, tokenizer, rows, max_length=MAX_LENGTH):
    """Every conversation by itself, through the model's own forward."""
    model.eval()
    with torch.no_grad():
        return [
            np.array([
                model(input_ids=torch.tensor([encode(tokenizer, row["prompt"], response, max_length).input_ids])).logits
                for response in row["responses"]
            ], dtype=np.float64).reshape(-1)
            for row in rows
        ]


@pytest.mark.parametrize("kind", ["loaded", "encoder"])
@pytest.mark.parametrize("max_tokens_per_batch", [1, 150, 16384])
def test_responses_have_the_rewards_that_each_has_by_itself(kind, max_tokens_per_batch, tiny_pairs, request):
    model, tokenizer = request.getfixturevalue(kind)
    rows = make_rows(tiny_pairs)
    expected = score_slowly(model, tokenizer, rows)
    found = score_responses(model, tokenizer, rows, max_length=MAX_LENGTH, max_tokens_per_batch=max_tokens_per_batch)
    assert [len(rewards) for rewards in found] == [1, 8, 0, 3, 2]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert np.concatenate(expected).std() > 1e-3  # a constant would pass everything
    assert np.abs(found[1] - np.roll(found[1], 1)).max() > 1e-3  # and so would rewards in another order


def test_prompts_that_are_cut_share_what_they_still_share(loaded, tiny_pairs):
    model, tokenizer = loaded
    rows = make_rows(tiny_pairs, counts=(4, 6))
    longest = max(len(encode(tokenizer, row["prompt"], response, 500).input_ids)
                  for row in rows for response in row["responses"])
    expected = score_slowly(model, tokenizer, rows, longest - 4)
    found = score_responses(model, tokenizer, rows, max_length=longest - 4)
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-5)


@pytest.mark.parametrize("kind", ["loaded", "encoder"])
def test_pairs_are_rows_of_two_responses(kind, tiny_pairs, request):
    model, tokenizer = request.getfixturevalue(kind)
    rows = Dataset.from_list([
        {"prompt": pair["prompt"], "responses": [pair["chosen"], pair["rejected"]]} for pair in tiny_pairs
    ])
    chosen, rejected = score_pairs(model, tokenizer, tiny_pairs, max_length=MAX_LENGTH, max_tokens_per_batch=500)
    expected = np.stack(score_responses(model, tokenizer, rows, max_length=MAX_LENGTH))
    np.testing.assert_allclose(np.stack([chosen, rejected], axis=1), expected, atol=1e-5)


def test_rewards_are_those_of_the_saved_model_padded_on_either_side(loaded, tiny_pairs, tmp_path):
    model, tokenizer = loaded
    rewards = np.stack(score_pairs(model, tokenizer, tiny_pairs, max_length=MAX_LENGTH))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    np.testing.assert_allclose(
        np.stack(score_pairs_from_path(tmp_path, tiny_pairs, max_length=MAX_LENGTH)), rewards, atol=1e-6
    )
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    plain_tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    sequences = [
        encode(tokenizer, row["prompt"], row[side], MAX_LENGTH).input_ids
        for side in ("chosen", "rejected") for row in tiny_pairs
    ]
    for side in ("left", "right"):
        plain_tokenizer.padding_side = side
        batch = plain_tokenizer.pad({"input_ids": sequences}, return_tensors="pt")
        with torch.no_grad():
            logits = plain(**batch).logits
        np.testing.assert_allclose(logits[:, 0].numpy(), rewards.reshape(-1), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("broken", [True, False])
def test_the_model_is_left_as_it_was(loaded, tiny_pairs, training, broken):
    model, tokenizer = loaded
    model.train(training)
    if broken:
        with torch.no_grad():
            model.score.weight.fill_(float("nan"))
        with pytest.raises(InputError, match="48 of 48 responses"):
            score_pairs(model, tokenizer, tiny_pairs, max_length=MAX_LENGTH)
    else:
        score_pairs(model, tokenizer, tiny_pairs, max_length=MAX_LENGTH)
    assert model.training is training
    assert model.config._attn_implementation == "sdpa"
    assert "forward" not in vars(model)


def test_batches_share_prompts_and_keep_to_their_tokens(loaded, tiny_pairs, monkeypatch):
    model, tokenizer = loaded
    sizes = []
    genuine = scoring.pack
    monkeypatch.setattr(scoring, "pack", lambda groups: sizes.append(genuine(groups)) or sizes[-1])
    rows = make_rows(tiny_pairs, counts=(8, 8, 8))
    whole = sum(len(encode(tokenizer, row["prompt"], response, MAX_LENGTH).input_ids)
                for row in rows for response in row["responses"])
    score_responses(model, tokenizer, rows, max_length=MAX_LENGTH, max_tokens_per_batch=150)
    tokens = [row["input_ids"].shape[1] for row in sizes]
    assert len(tokens) > 1 and max(tokens) <= 150
    assert sum(tokens) < 0.8 * whole


def test_a_response_that_does_not_fit_is_named(loaded, tiny_pairs):
    model, tokenizer = loaded
    with pytest.raises(ResponseTooLong, match="^pair p0: response"):
        score_pairs(model, tokenizer, tiny_pairs, max_length=4)
    with pytest.raises(ResponseTooLong, match="^row 0: response"):
        score_responses(model, tokenizer, make_rows(tiny_pairs), max_length=4)
