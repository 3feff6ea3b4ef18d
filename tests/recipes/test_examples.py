"""The example scripts in recipes/: they train, and with the loss that they name."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

from rmkit.core.checks import InputError
from rmkit.losses import bradley_terry_loss, noise_corrected_loss

# TRL 1.16 passes on an argument name that transformers 5.23 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")

RECIPES = Path(__file__).parents[2] / "recipes"
WORDS = ["<pad>", "<s>", "</s>", "<unk>", "user", "assistant", *(f"word{i}" for i in range(8)), "good", "bad"]
TEMPLATE = "<s> {% for message in messages %}{{ message['role'] }} {{ message['content'] }} </s> {% endfor %}"


def load(name):
    specification = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def tokenizer():
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        chat_template=TEMPLATE, padding_side="right")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LlamaForSequenceClassification(LlamaConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, num_labels=1, pad_token_id=0, bos_token_id=1,
        eos_token_id=2))


def make_pairs(target, margin=0.0, count=64):
    """Good answers chosen over bad ones of another length, in conversational form."""
    rows = [{
        "prompt": [{"role": "user", "content": f"word{i % 8}"}],
        "chosen": [{"role": "assistant", "content": f"good word{i % 5}"}],
        "rejected": [{"role": "assistant", "content": f"bad word{i % 7} word{i % 3}"}],
        "target": target,
        "margin": margin,
    } for i in range(count)]
    return Dataset.from_list(rows)


@torch.no_grad()
def measure_gap(model, tokenizer):
    chats = [[{"role": "user", "content": "word1"}, {"role": "assistant", "content": answer}]
             for answer in ("good word2", "bad word2")]
    tokens = tokenizer.apply_chat_template(chats, padding=True, return_dict=True, return_tensors="pt")
    good, bad = model.eval()(**tokens).logits.squeeze(-1)
    return (good - bad).item()


# The bare loop

@pytest.mark.parametrize(("target", "low", "high"), [(1.0, 1.0, 99.0), (0.0, -99.0, -1.0), (0.5, -0.5, 0.5)])
def test_bare_loop_learns_the_targets(model, tokenizer, target, low, high):
    losses = load("bare_loop").train(model, tokenizer, make_pairs(target), learning_rate=3e-3)
    assert len(losses) == 8
    assert low < measure_gap(model, tokenizer) < high


def test_bare_loop_uses_the_margin(model, tokenizer):
    without = load("bare_loop").train(model, tokenizer, make_pairs(1.0), learning_rate=0.0)
    with_margin = load("bare_loop").train(model, tokenizer, make_pairs(1.0, margin=3.0), learning_rate=0.0)
    assert with_margin[0] - without[0] == pytest.approx(2.4, abs=0.3)  # softplus(3 - gap) - softplus(-gap), gap near 0


def test_bare_loop_trains_a_model_that_comes_in_eval_mode(model, tokenizer):
    modes = []
    model.eval().register_forward_pre_hook(lambda module, _: modes.append(module.training))
    load("bare_loop").train(model, tokenizer, make_pairs(1.0, count=8))
    assert modes == [True]


# Inside TRL

@pytest.fixture
def make_trainer(model, tokenizer, tmp_path):
    def make(pairs, max_steps=8, **options):
        from trl import RewardConfig

        config = RewardConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_steps=1,
            max_steps=max_steps, per_device_train_batch_size=8, learning_rate=1e-2, lr_scheduler_type="constant",
            disable_tqdm=True, seed=0,
            **options.pop("config", {}))
        return load("trl_reward_trainer").RobustRewardTrainer(
            model=model, args=config, train_dataset=pairs, processing_class=tokenizer, **options)

    return make


def test_trl_learns_the_targets(make_trainer, model, tokenizer):
    make_trainer(make_pairs(0.0)).train()
    assert measure_gap(model, tokenizer) < -1


def test_trl_example_computes_the_losses_of_the_library(make_trainer, model):
    pairs = make_pairs(0.7, margin=1.5)
    for options, loss in (
        ({}, bradley_terry_loss),
        ({"loss": "noise_corrected", "loss_settings": {"flip_rate": 0.2}},
         lambda *rewards, **arguments: noise_corrected_loss(*rewards, flip_rate=0.2, **arguments)),
    ):
        trainer = make_trainer(pairs, config={"center_rewards_coefficient": 0.1}, **options)
        batch = next(iter(trainer.get_train_dataloader()))
        assert batch["target"].tolist() == pytest.approx([0.7] * 8)
        rewards = model.eval()(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.squeeze(-1)
        chosen, rejected = rewards.chunk(2)
        expected = loss(chosen, rejected, target=0.7, margin=1.5) + 0.1 * (chosen + rejected).square().mean()
        actual = trainer.compute_loss(model, dict(batch))
        torch.testing.assert_close(actual, expected)
        trl_loss = super(type(trainer), trainer).compute_loss(
            model, {name: value for name, value in batch.items() if name != "target"})
        assert abs(actual - trl_loss) > 0.1


def test_trl_example_takes_targets_for_all_pairs_or_none(make_trainer):
    trainer = make_trainer(make_pairs(1.0).remove_columns(["target", "margin"]), max_steps=2)
    assert trainer.train().global_step == 2
    row = {"chosen_ids": [1], "rejected_ids": [1]}
    with pytest.raises(KeyError, match="target"):
        trainer.collate([row | {"target": 1.0}, row])


def test_trl_example_names_the_losses_that_it_has(make_trainer):
    with pytest.raises(InputError, match="one of bradley_terry, symmetric, noise_corrected, got 'hinge'"):
        make_trainer(make_pairs(1.0, count=8), loss="hinge")


def test_trl_example_runs_from_the_command_line(model, tokenizer, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    make_pairs(1.0, count=8).to_parquet(tmp_path / "train.parquet")
    options = {"model_name_or_path": "base", "pairs": "train.parquet", "output_dir": "out"}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(tmp_path / value))]
    arguments += ["--use_cpu", "--bf16", "false", "--report_to", "none", "--num_train_epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["trl_reward_trainer.py", *arguments])
    load("trl_reward_trainer").main()
    LlamaForSequenceClassification.from_pretrained(tmp_path / "out")
