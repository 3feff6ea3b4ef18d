"""Packed rows: rewards and gradients of the padded batch, whatever the model, and nothing else changed."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from rmkit.core.checks import InputError
from rmkit.data.collators import Segments, pack
from rmkit.models import packed_attention as packed
from rmkit.models.packed_attention import PACKED_MODELS, PackingPlan, enable_packing, packing_unsupported_reason

GROUPS = [
    [[5, 6, 7, 8, 9, 10], [5, 6, 7, 8, 11], [5, 6, 7, 8, 9, 12, 13, 14]],  # three responses to one prompt
    [[15, 16, 17, 18]],
    [[19, 20, 21], [22, 23, 24, 25, 26]],  # nothing in common
    [[27, 28, 29], [27, 28, 29]],
    [[30, 31], [30, 31, 32, 33]],  # one continues the other
]
PAD = 1
TOLERANCE = 1e-5
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def build(kind, **settings):
    """A model of random weights, 2 layers of 32, two query heads to a key head."""
    sizes = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "sliding_window": None,
        "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3, "num_labels": 1, "initializer_range": 0.3,
        **({"sliding_window": 64} if kind == "gemma3_text" else {}),
        **(EXPERTS if kind in ("mixtral", "qwen3_moe") else {}),
    }
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **{**sizes, **settings})).train()


def pad(groups):
    sequences = [sequence for group in groups for sequence in group]
    longest = max(map(len, sequences))
    ids = torch.tensor([sequence + [PAD] * (longest - len(sequence)) for sequence in sequences])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def learn(model, batch):
    """Rewards, and the gradients of a function of them that weighs each one differently."""
    rewards = model(**batch).logits[:, 0]
    (rewards * torch.linspace(1, 2, len(rewards))).tanh().sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return rewards.detach(), gradients


def assert_same(seen, expected):
    """Rewards, and each parameter's gradient by its length. (float64 says no more: norms and positions are float32.)"""
    torch.testing.assert_close(seen[0], expected[0], rtol=TOLERANCE, atol=TOLERANCE)
    assert seen[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert gradient.norm() > 0, name
        assert (seen[1][name] - gradient).norm() <= TOLERANCE * gradient.norm(), name


@pytest.mark.parametrize("kind", PACKED_MODELS)
def test_rewards_and_gradients_of_the_padded_batch(kind):
    model = build(kind)
    assert packing_unsupported_reason(model, 64) is None
    expected = learn(model, pad(GROUPS))
    enable_packing(model)
    assert packing_unsupported_reason(model, 64) is None
    assert_same(learn(model, pack(GROUPS)), expected)


def test_the_segments_decide():
    """The twin of the test above: the same row with one prefix shorter by one, and read at another place."""
    model = build("llama")
    enable_packing(model)
    row = pack(GROUPS)
    segments = row["segments"]
    rewards = learn(model, row)[0]
    shorter = Segments(segments.lengths, tuple(prefix - (prefix == 4) for prefix in segments.prefixes))
    assert ((learn(model, {**row, "segments": shorter})[0] - rewards).abs() > 1e-4).sum() == 2
    assert not torch.allclose(learn(model, {**row, "last": row["last"] - 1})[0], rewards, rtol=1e-4)


def test_with_recomputed_activations():
    model = build("llama")
    expected = learn(model, pad(GROUPS))
    enable_packing(model)
    model.activation_checkpointing_enable({"use_reentrant": False})
    assert_same(learn(model, pack(GROUPS)), expected)


def test_with_adapters():
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", init_lora_weights=False)
    model = peft.get_peft_model(build("llama"), settings)
    expected = learn(model, pad(GROUPS))
    assert packing_unsupported_reason(model, 64) is None
    enable_packing(model)
    assert_same(learn(model, pack(GROUPS)), expected)


def test_padded_batches_copies_and_checkpoints_are_what_they_were(tmp_path):
    model = build("qwen2")
    plain = model(**pad(GROUPS)).logits
    model.save_pretrained(tmp_path / "before")
    enable_packing(model)
    assert torch.equal(model(**pad(GROUPS)).logits, plain)
    twin = copy.deepcopy(model)
    torch.nn.init.zeros_(model.score.weight)
    assert torch.equal(twin(**pad(GROUPS)).logits, plain) and not model(**pack(GROUPS)).logits.any()
    twin.save_pretrained(tmp_path / "after")
    files = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in ("before", "after")]
    assert files[0] == files[1]
    for name in files[0]:
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes(), name


def run_varlen(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size):
    """`varlen_attn` as its page describes it, sequence by sequence; with (-1, 0), the last query sees the last key."""
    assert window_size == (-1, 0) and cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert (max_q, max_k) == (int(cu_seq_q.diff().max()), int(cu_seq_k.diff().max()))
    outputs = []
    for number in range(len(cu_seq_q) - 1):
        q = query[cu_seq_q[number]:cu_seq_q[number + 1]]
        k, v = (row[cu_seq_k[number]:cu_seq_k[number + 1]] for row in (key, value))
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale
        seen = torch.arange(len(k)) <= torch.arange(len(q))[:, None] + len(k) - len(q)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -np.inf).softmax(dim=-1), v))
    return torch.cat(outputs)


def test_in_turn_and_at_once_are_one_attention(monkeypatch):
    monkeypatch.setattr(packed, "varlen_attn", run_varlen)
    row = pack(GROUPS)
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4, row["input_ids"].shape[1], 8, dtype=torch.float64)
    plan = PackingPlan(row["segments"])
    in_turn = plan.attend_sdpa(query, key, value, final=False, scale=0.3)
    torch.testing.assert_close(plan.attend_varlen(query, key, value, 0.3), in_turn, rtol=1e-12, atol=1e-12)
    final = plan.attend_sdpa(query, key, value, final=True, scale=0.3)
    torch.testing.assert_close(final[:, row["last"]], in_turn[:, row["last"]], rtol=1e-12, atol=1e-12)
    assert final.count_nonzero() == len(row["last"]) * 4 * 8


@pytest.mark.gpu
@pytest.mark.skipif(not (torch.cuda.is_available() and packed.VARLEN), reason="needs CUDA and torch's varlen_attn")
def test_at_once_on_cuda():
    row = pack([[list(range(2, 40)), list(range(2, 30)) + [50]], [[40, 41, 42]]])
    torch.manual_seed(0)
    rows = torch.randn(3, 1, 4, row["input_ids"].shape[1], 64, device="cuda", dtype=torch.bfloat16)
    plan = PackingPlan(row["segments"])
    exact = PackingPlan(row["segments"]).attend_sdpa(*rows.double(), final=False, scale=0.125)
    torch.testing.assert_close(plan.attend_varlen(*rows, 0.125).double(), exact, rtol=0, atol=2e-2)


def test_who_is_padded():
    windowed = build("mistral", sliding_window=16)
    assert packing_unsupported_reason(windowed, 16) is None and "window is 16" in packing_unsupported_reason(
        windowed, 17
    )
    eager = build("llama", attn_implementation="eager")
    assert "eager" in packing_unsupported_reason(eager, 16)
    bert = BertForSequenceClassification(BertConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    ))
    assert "BertForSequenceClassification" in packing_unsupported_reason(bert, 16)


def test_refuses_attention_that_it_does_not_compute():
    query = torch.zeros(1, 1, 2, 4)
    with pytest.raises(InputError, match="softcap"):
        packed.attend(
            torch.nn.Module(), query, query, query, None, plan=PackingPlan(Segments((2,), (0,))), softcap=30.0
        )


@pytest.mark.parametrize("kind", PACKED_MODELS)
def test_without_gradients_the_final_mlp_reads_the_last_tokens_alone(kind):
    model = build(kind).eval()
    with torch.inference_mode():
        expected = model(**pad(GROUPS)).logits
    seen = []
    enable_packing(model)
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda module, states, output: seen.append(states[0].shape[1]))
    row = pack(GROUPS)
    with torch.inference_mode():
        torch.testing.assert_close(model(**row).logits, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert seen == [row["input_ids"].shape[1], len(expected)]
    seen.clear()
    model(**row)
    assert seen == [row["input_ids"].shape[1]] * 2
