"""`rmkit reinforce`: a policy optimised against a reward model, on DeepSpeed."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from rmkit.core.checks import raise_input_error
from rmkit.core.stage import Stage, write_json
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.samples import read_prompts
from rmkit.data.sources import find_files
from rmkit.training.config import select_settings
from rmkit.training.distributed import is_first_rank, wait_for_ranks
from rmkit.training.rl import PolicyTrainingSettings, make_policy_arguments, make_policy_trainer
from rmkit.training.session import LaunchSettings, run_training_session, take_all_steps

PROMPTS = "prompts.json"


@dataclass(kw_only=True)
class RlConfig(LaunchSettings, PolicyTrainingSettings):
    """Optimise the policy `model_name_or_path` on the prompts of `data` by REINFORCE leave-one-out (TRL's RLOO).

    The reward is that of `reward_model` over `reward_scale` (reward units; the spread of its rewards within a prompt
    makes `beta` mean the same for every reward model), less `beta` times the log-ratio to `reference`, by default the
    policy as it begins. `data`: rows with a `prompt`, as `rmkit sample` takes them. `deepspeed`, `processes` and
    `launcher` are those of `rmkit train`, all others TRL's. An interrupted run goes on from its last complete
    checkpoint (`save_steps`).
    """

    data: str
    model_name_or_path: str
    reward_model: str
    output_dir: str = field()
    reference: str | None = None
    reward_scale: float = 1.0
    split: str = "train"

    def __post_init__(self) -> None:
        self.check()
        if not self.reward_scale > 0:
            raise_input_error("reward_scale", "above 0", self.reward_scale, "1 takes the rewards as they are.")
        self.check_ranks()
        responses = self.per_device_train_batch_size * self.gradient_accumulation_steps * self.processes
        if self.launcher is None and responses % self.num_generations:
            raise_input_error(
                "num_generations",
                f"a divisor of the {responses} responses of a step",
                self.num_generations,
                "A step takes whole prompts.",
            )


def rl(config: RlConfig) -> Path:
    """Optimise, and write policy and tokenizer into the stage's folder; the record has the curves, "log_history".

    Under a launcher, every rank calls this.
    """
    find_files(config.data)
    inputs = {"data": config.data, "model": config.model_name_or_path, "reward_model": config.reward_model,
              "reference": config.reference or config.model_name_or_path}

    def make(deepspeed: dict[str, Any] | str | None) -> Any:
        return make_policy_arguments(
            select_settings(PolicyTrainingSettings, config),
            output_dir=config.output_dir,
            reward_scale=config.reward_scale,
            deepspeed=deepspeed,
            use_cpu=config.use_cpu,
            trust_remote_code=config.trust_remote_code,
        )

    def optimise(stage: Stage, arguments: Any) -> None:
        trainer = make_policy_trainer(
            arguments,
            policy=config.model_name_or_path,
            reference=config.reference or config.model_name_or_path,
            reward_model=config.reward_model,
            prompts=share_prompts(stage, config),
            checkpoints=config.save_total_limit,
            trust_remote_code=config.trust_remote_code,
        )
        take_all_steps("reinforce", trainer, stage)

    return run_training_session("reinforce", config, inputs, make, optimise)


def share_prompts(stage: Stage, config: RlConfig) -> Dataset:
    """The prompts, which the first process reads into the stage's folder and all load from there."""
    file = stage.directory / PROMPTS
    if is_first_rank():
        with RejectedRows(stage.directory / "quarantine.jsonl") as quarantine:
            rows = read_prompts(config.data, config.split, quarantine)
        write_json(file, {"key": PROMPTS, "prompts": [row["prompt"] for row in rows]})
    wait_for_ranks()
    return Dataset.from_dict({"prompt": json.loads(file.read_text(encoding="utf-8"))["prompts"]})
