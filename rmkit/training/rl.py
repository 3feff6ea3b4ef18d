"""Policy optimisation against a reward model: TRL's RLOOTrainer; and language models to train."""

import importlib
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.models.reward_model import load_language_model, load_reward_model, load_tokenizer
from rmkit.training.checkpoint import take_over_checkpoints


def import_trl() -> Any:
    """TRL, an optional dependency. Raises `InputError` where it is not installed."""
    try:
        return importlib.import_module("trl")
    except ImportError as error:
        raise_input_error("trl", "TRL, which trains language models", Verbatim(error), "Install rmkit[trl].")


def make_rloo_trainer(
    arguments: Any,
    *,
    policy: str,
    reference: str,
    reward_model: str,
    prompts: Dataset,
    trust_remote_code: bool = False,
) -> Trainer:
    """TRL's RLOOTrainer of the language model at `policy` on `prompts`: rows of `prompt`, messages.

    The reward is that of the model at `reward_model`, the penalty `beta` times the log-ratio to the model at
    `reference`, where TRL would take the policy before training. All steps are of one epoch, since TRL restarts its
    order of prompts when resumed in a later epoch. Raises `InputError` for models that cannot be loaded.

    Source: Ahmadian et al., arXiv 2402.14740.
    """
    model = load_language_model(policy, trust_remote_code=trust_remote_code)
    model.config._name_or_path = reference  # TRL loads the reference from this path
    tokenizer = load_policy_tokenizer(policy, model, trust_remote_code)
    tokenizer.padding_side = "left"
    reward_tokenizer = load_tokenizer(reward_model, trust_remote_code=trust_remote_code)
    trainer: Trainer = import_trl().RLOOTrainer(
        model=model,
        reward_funcs=load_reward_model(reward_model, reward_tokenizer, trust_remote_code=trust_remote_code),
        args=arguments,
        train_dataset=order_prompts(prompts, arguments),
        processing_class=tokenizer,
        reward_processing_classes=reward_tokenizer,
        callbacks=[take_over_checkpoints(arguments)],
    )
    return trainer


def order_prompts(prompts: Dataset, arguments: Any) -> Dataset:
    """The prompts of all steps in order: one random permutation of `prompts` after another."""
    count = arguments.max_steps * arguments.generation_batch_size // arguments.num_generations
    generator = np.random.default_rng(derive_seed(arguments.seed, "prompts"))
    orders = [generator.permutation(len(prompts)) for _ in range(-(-count // len(prompts)))]
    return prompts.select(np.concatenate(orders)[:count])


def load_policy_tokenizer(path: str, model: PreTrainedModel, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer at `path`; it pads with the end token where the model has no embedding for the pad token."""
    tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    if tokenizer.pad_token_id >= model.get_input_embeddings().num_embeddings:  # added for reward models
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
