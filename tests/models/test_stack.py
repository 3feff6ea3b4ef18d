"""The stack: each member's rewards and gradients are those of a PEFT model of its own, whatever the family."""

import copy

import numpy as np
import peft
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification

from rmkit.core.checks import InputError
from rmkit.models.reward import load_reward_model, load_tokenizer
from rmkit.models.stack import AdapterStack

pytestmark = pytest.mark.filterwarnings(
    r"ignore:.*torch\.jit\.:DeprecationWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
SIZES = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
         "num_attention_heads": 2, "max_position_embeddings": 32, "pad_token_id": 0}
FAMILIES = {
    "Bert": {}, "Roberta": {}, "Electra": {"embedding_size": 8}, "MPNet": {}, "GPTNeoX": {},
    "ModernBert": {"global_attn_every_n_layers": 2, "local_attention": 4, "cls_token_id": 1, "sep_token_id": 2,
                   "bos_token_id": 1, "eos_token_id": 2, "classifier_pooling": "mean"},
    "Llama": {"num_key_value_heads": 1}, "Qwen2": {"num_key_value_heads": 1, "use_sliding_window": True,
                                                   "sliding_window": 4, "max_window_layers": 1},
    "Gemma2": {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4},
}


def build(family, **changes):
    """A tiny reward model with random weights that are not small."""
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **FAMILIES.get(family, {}), **changes}, num_labels=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def stack_up(model, members=3, layers=1):
    """A stack whose adapters have learnt something: `up`, zero at the start, is random."""
    stack = AdapterStack(copy.deepcopy(model), range(members), rank=2, alpha=6.0, layers=layers)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for layer in stack.adapters.values():
            layer.up.data.normal_(0.0, 0.3)
    return stack


def draw_tokens(members=3, rows=4):
    """Tokens [member * row, token] of differing lengths, no two rows the same."""
    rng = np.random.default_rng(0)
    tokens = torch.tensor(rng.integers(3, 60, (members * rows, 12)))
    mask = (torch.arange(12) < torch.tensor(rng.integers(5, 13, members * rows))[:, None]).long()
    return torch.where(mask == 1, tokens, 0), mask


def run_stack(stack, tokens, mask):
    return stack.run_members(stack.run_trunk(tokens, mask), tokens, mask)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_members_are_the_peft_models_that_are_saved(family, layers, tmp_path):
    model = build(family)
    stack = stack_up(model, layers=layers)
    tokens, mask = draw_tokens()
    rewards = run_stack(stack, tokens, mask)
    stack.save(tmp_path, "base")
    weights = torch.linspace(1.0, 2.0, 4)
    (rewards * weights).sum().backward()
    for member in range(3):
        alone = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / str(member), is_trainable=True).eval()
        own = slice(4 * member, 4 * member + 4)
        expected = alone(input_ids=tokens[own], attention_mask=mask[own]).logits[:, 0]
        torch.testing.assert_close(rewards[member], expected, atol=1e-5, rtol=1e-5)
        (expected * weights).sum().backward()
        seen = 0
        for name, parameter in alone.named_parameters():
            if not parameter.requires_grad:
                assert "lora" not in name
                continue
            name = name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
            place, _, kind = name.removesuffix(".weight").rpartition(".")
            if "lora_" in name:
                grad = getattr(stack.adapters[place], {"lora_A": "down", "lora_B": "up"}[kind]).grad[member].T
            elif name.endswith(".bias"):
                grad = stack.head[name.removesuffix(".bias")].bias.grad[member, 0]
            else:
                grad = stack.head[name.removesuffix(".weight")].weight.grad[member].T
            assert grad.abs().max() > 0
            torch.testing.assert_close(grad, parameter.grad, atol=1e-5, rtol=1e-4)
            seen += 1
        assert seen == len(stack.parameters())
    assert (rewards[0] - rewards[1]).abs().max() > 1e-3  # or any member would pass for any other


def test_rows_of_one_member_do_not_reach_another():
    stack = stack_up(build("Llama"))
    tokens, mask = draw_tokens()
    before = run_stack(stack, tokens, mask)
    changed = tokens.clone()
    changed[4:8] = torch.where(mask[4:8] == 1, 7, 0)
    after = run_stack(stack, changed, mask)
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])
    assert (before[1] - after[1]).abs().max() > 1e-3
    before[1].sum().backward()
    for weight in stack.parameters():
        assert not weight.grad[[0, 2]].any() and weight.grad[1].any()


def test_some_members_alone_are_what_they_are_among_all():
    stack = stack_up(build("Bert"))
    tokens, mask = draw_tokens()
    states = stack.run_trunk(tokens, mask)
    every = stack.run_members(states, tokens, mask)
    two = stack.run_members(states[4:], tokens[4:], mask[4:], members=slice(1, 3))
    torch.testing.assert_close(two, every[1:])
    two.sum().backward()
    for weight in stack.parameters():
        assert not weight.grad[0].any() and weight.grad[1:].any()


def test_trunk_is_not_run_again_and_the_blocks_are_left_as_they_were():
    stack = stack_up(build("Bert"))
    tokens, mask = draw_tokens()
    states = stack.run_trunk(tokens, mask)
    runs = []
    handles = [block.register_forward_hook(lambda *_, n=n: runs.append(n)) for n, block in enumerate(stack.blocks)]
    stack.blocks[0].attention.register_forward_hook(lambda *_: runs.append("trunk"))
    first = stack.run_members(states, tokens, mask)
    assert "trunk" not in runs and runs[-1] == 2
    for handle in handles:
        handle.remove()
    runs.clear()
    torch.testing.assert_close(stack.model(input_ids=tokens, attention_mask=mask).logits.view(3, 4), first)
    assert runs == ["trunk"]
    assert not torch.allclose(stack.run_members(states.flip(0), tokens, mask), first)  # the states are what counts


def test_members_start_as_the_loaded_model_with_a_head_under_their_seed(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    tokens, mask = torch.arange(3, 27).view(3, 8), torch.ones(3, 8, dtype=torch.long)
    stack = AdapterStack(load_reward_model(tiny_base, tokenizer, seed=0), [5, 6, 7], rank=2, alpha=4.0)
    rewards = run_stack(stack, tokens.repeat(3, 1), mask.repeat(3, 1))
    for member, seed in enumerate((5, 6, 7)):
        model = load_reward_model(tiny_base, tokenizer, seed=seed).eval()
        expected = model(input_ids=tokens, attention_mask=mask).logits[:, 0]
        torch.testing.assert_close(rewards[member], expected)
    fewer = AdapterStack(load_reward_model(tiny_base, tokenizer, seed=1), [5], rank=2, alpha=4.0)
    for one, other in zip(stack.parameters(), fewer.parameters(), strict=True):
        torch.testing.assert_close(one[:1], other)
    assert all((layer.down[0] - layer.down[1]).abs().max() > 0.01 for layer in stack.adapters.values())
    bounds = [layer.down.abs().max() * layer.base.in_features**0.5 for layer in stack.adapters.values()]
    assert 0.8 < min(bounds) and max(bounds) <= 1.0


def test_a_reward_model_keeps_its_head():
    model = build("Llama")
    model.config.architectures = ["LlamaForSequenceClassification"]
    weight = model.score.weight.detach().clone()
    stack = AdapterStack(model, [1, 2], rank=2, alpha=4.0)
    for member in range(2):
        torch.testing.assert_close(stack.head["score"].weight[member], weight.T)


@pytest.mark.parametrize(("count", "adapted"), [(3, {"2"}), (6, {"5"}), (12, {"10", "11"})])
def test_a_sixth_of_the_layers_and_what_stands_behind_them_are_adapted(count, adapted):
    stack = AdapterStack(build("Bert", num_hidden_layers=count), [0], rank=2, alpha=4.0)
    assert {name.split(".")[3] for name in stack.adapters if "layer" in name} == adapted
    assert [name for name in stack.adapters if "layer" not in name] == ["bert.pooler.dense"]
    assert list(stack.head) == ["classifier"] and len(stack.adapters) == 6 * len(adapted) + 1
    assert all(not layer.base.weight.requires_grad for layer in stack.adapters.values())


@pytest.mark.parametrize("family", ["GPT2", "Albert", "DebertaV2"])
def test_refuses_families_it_cannot_serve(family):
    changes = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]} if family == "DebertaV2" else {}
    with pytest.raises(InputError, match="Vote with kind heads"):
        run_stack(AdapterStack(build(family, **changes), [0, 1, 2], rank=2, alpha=4.0), *draw_tokens())


@pytest.mark.parametrize("layers", [0, 4])
def test_refuses_layers_that_are_not_there(layers):
    with pytest.raises(InputError, match="1 to 3, the model's blocks"):
        AdapterStack(build("Bert"), [0], rank=2, alpha=4.0, layers=layers)
