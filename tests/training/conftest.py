"""A trainer on the tiny pairs, with DeepSpeed or without, in this process."""

import contextlib
import warnings

import pytest

from rmkit.models.reward import load_reward_model, load_tokenizer
from rmkit.training.trainer import RewardConfig, RewardTrainer
from rmkit.training.zero import deepspeed_environment

SETTINGS = {
    "use_cpu": True,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "max_grad_norm": 0.0,
    "max_length": 128,
    "disable_tqdm": True,
    "save_strategy": "no",
}


@pytest.fixture
def build_trainer(tiny_base, tiny_pairs, tmp_path):
    """build_trainer(**settings) -> a RewardTrainer; a `deepspeed` setting works within this test."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(deepspeed_environment())
        warnings.filterwarnings("ignore", r".*torch\.jit\.", DeprecationWarning)  # torch's own, on its first compile

        def build(model=None, pairs=tiny_pairs, evaluation=None, **settings):
            arguments = RewardConfig(**{"output_dir": str(tmp_path), **SETTINGS, **settings})
            tokenizer = load_tokenizer(tiny_base)
            model = model or load_reward_model(tiny_base, tokenizer, seed=0)
            return RewardTrainer(
                model, arguments, processing_class=tokenizer, train_dataset=pairs, eval_dataset=evaluation
            )

        yield build


@pytest.fixture
def train_losses(build_trainer):
    """train_losses(**settings) -> the loss of each step."""

    def run(**settings):
        trainer = build_trainer(**settings)
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    return run
