"""Policies: the adapter around TRL's RLOO trainer, which optimises a policy against a reward model."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, Trainer

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.models.reward_model import first_line, load_reward_model, load_tokenizer
from rmkit.training.checkpoint import CompleteCheckpointCallback
from rmkit.training.config import TrainingSettings, make_arguments


@dataclass
class PolicyTrainingSettings(TrainingSettings):
    """Settings of TRL's RLOOConfig, with its names and, where not said here, its meaning.

    A step takes the responses of `per_device_train_batch_size` * `gradient_accumulation_steps` on each process,
    `num_generations` to each prompt. `beta` is the penalty per nat of divergence from the reference policy. Responses
    end after `max_completion_length` tokens.
    """

    max_steps: int = 100
    per_device_train_batch_size: int = 16
    lr_scheduler_type: str = "constant"
    num_generations: int = 4
    beta: float = 0.05
    max_completion_length: int = 512
    temperature: float = 1.0

    def check(self) -> None:
        """Refuse what TRL would refuse later, on every process, or take without a word."""
        super().check()
        if self.num_generations < 2:
            raise_input_error(
                "num_generations",
                "at least 2, each of which is the others' baseline",
                self.num_generations,
                "4 is usual.",
            )
        if self.max_steps < 1:
            raise_input_error("max_steps", "at least 1", self.max_steps, "Say how long to optimise.")
        if self.beta < 0:
            raise_input_error("beta", "0 or more", self.beta, "0 is without a penalty; 0.05 is usual.")


def import_trl() -> Any:
    """TRL, an extra; refused where there is none."""
    try:
        return importlib.import_module("trl")
    except ImportError as error:
        raise_input_error("trl", "TRL, which optimises policies", Verbatim(error), "Install rmkit[trl].")


def make_policy_arguments(
    settings: PolicyTrainingSettings,
    *,
    output_dir: str,
    reward_scale: float = 1.0,
    deepspeed: dict[str, Any] | str | None = None,
    use_cpu: bool = False,
    trust_remote_code: bool = False,
) -> Any:
    """TRL's RLOOConfig of this process, which joins the process group; rewards are divided by `reward_scale`.

    Raises `InputError` without TRL, and for settings that do not fit together.
    """
    return make_arguments(
        import_trl().RLOOConfig, settings, "reinforce", output_dir=output_dir, deepspeed=deepspeed, use_cpu=use_cpu,
        reward_weights=[1.0 / reward_scale], shuffle_dataset=False, disable_dropout=True,
        trust_remote_code=trust_remote_code,
    )


def make_policy_trainer(
    arguments: Any,
    *,
    policy: str,
    reference: str,
    reward_model: str,
    prompts: Dataset,
    checkpoints: int | None = 1,
    trust_remote_code: bool = False,
) -> Trainer:
    """TRL's RLOOTrainer of the language model at `policy` on `prompts`: rows of `prompt`, messages.

    The reward is that of the model at `reward_model`, the penalty `beta` times the log-ratio to the model at
    `reference`. TRL takes the model that it is given for the reference, which would be another one in every round.
    It would begin its order of prompts anew when resumed in a later epoch; here all steps are of one epoch.
    `checkpoints`: how many are kept; they are sealed. Raises `InputError` for models that cannot be loaded.

    Source: Ahmadian et al., arXiv 2402.14740.
    """
    trl = import_trl()
    model = load_policy(policy, trust_remote_code)
    model.config._name_or_path = reference  # from where TRL loads the reference
    tokenizer = load_policy_tokenizer(policy, model, trust_remote_code)
    tokenizer.padding_side = "left"
    scorer_tokenizer = load_tokenizer(reward_model, trust_remote_code=trust_remote_code)
    scorer = load_reward_model(reward_model, scorer_tokenizer, trust_remote_code=trust_remote_code)
    trainer: Trainer = trl.RLOOTrainer(
        model=model,
        reward_funcs=scorer,
        args=arguments,
        train_dataset=order_prompts(prompts, arguments),
        processing_class=tokenizer,
        reward_processing_classes=scorer_tokenizer,
        callbacks=[CompleteCheckpointCallback(checkpoints)],
    )
    return trainer


def order_prompts(prompts: Dataset, arguments: Any) -> Dataset:
    """The prompts of all steps, one behind the other: the given ones in an order by chance, then in another."""
    count = arguments.max_steps * arguments.generation_batch_size // arguments.num_generations
    generator = np.random.default_rng(derive_seed(arguments.seed, "prompts"))
    orders = [generator.permutation(len(prompts)) for _ in range(-(-count // len(prompts)))]
    return prompts.select(np.concatenate(orders)[:count])


def load_policy(path: str, trust_remote_code: bool) -> PreTrainedModel:
    """The causal language model at `path`, in float32."""
    try:
        return AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise_input_error(
            f"model {path}",
            "a causal language model's folder or hub name, with safetensors weights",
            Verbatim(first_line(error)),
            "Check the path and the model's kind.",
        )


def load_policy_tokenizer(path: str, model: PreTrainedModel, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer at `path`; it pads with the end token where the model does not know its pad token."""
    tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    if tokenizer.pad_token_id >= model.get_input_embeddings().num_embeddings:  # one that was added for reward models
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
