"""`rmkit rl`: a language model optimised against a reward model, on DeepSpeed."""

from pathlib import Path
from typing import Any

from rmkit.core.checks import raise_input_error
from rmkit.core.config import configuration, option
from rmkit.training.settings import TrainingSettings


@configuration
class RlConfig(TrainingSettings):
    """Optimise a language model against a reward model by REINFORCE leave-one-out (TRL's RLOO).

    The objective is the reward over `reward_scale`, less `beta` times the log-ratio to the reference. A step takes
    `per_device_train_batch_size` * `gradient_accumulation_steps` responses on each process. All keys of Hugging Face's
    TrainingArguments are known. An interrupted run resumes from its last complete checkpoint (`save_steps`).
    """

    data: str = option(help="Rows with a prompt, as for rmkit sample: file, folder or hub name.")
    model_name_or_path: str = option(help="Language model: folder or hub name.")
    reward_model: str = option(help="Reward model: folder or hub name.")
    reference: str | None = option(None, "Reference model; by default the model before training.")
    split: str = option("train", "Split of the data.")
    reward_scale: float = option(
        1.0, "Divides rewards; their spread within a prompt makes beta comparable between reward models.", gt=0
    )
    beta: float = option(0.05, "Penalty per nat of divergence from the reference.", ge=0)
    num_generations: int = option(4, "Responses to each prompt; each is compared with the mean of the others.", ge=2)
    max_completion_length: int = option(512, "Tokens of a response.", ge=1)
    temperature: float = option(1.0, "Sampling temperature.", gt=0)
    max_steps: int = option(100, "Optimizer steps.", ge=1)
    per_device_train_batch_size: int = option(16, "Responses of a forward on each process.", ge=1)
    learning_rate: float = option(1e-6, "Learning rate at its highest.")
    lr_scheduler_type: str = option("constant", "Schedule of the learning rate.")
    save_steps: float = option(100, "Steps between two checkpoints.")
    seed: int = option(0, "Seed of all randomness.")

    def __post_init__(self) -> None:
        super().__post_init__()
        responses = self.per_device_train_batch_size * self.gradient_accumulation_steps * self.num_processes
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
    from rmkit.data.samples import read_prompts
    from rmkit.data.sources import find_files
    from rmkit.training.config import build_arguments
    from rmkit.training.rl import import_trl, make_rloo_trainer
    from rmkit.training.session import run_training_session, share_rows, train_and_save

    def make_arguments() -> Any:
        return build_arguments(
            import_trl().RLOOConfig, "rl", config, reward_weights=[1.0 / config.reward_scale], shuffle_dataset=False,
            disable_dropout=True, remove_unused_columns=False, dataloader_pin_memory=False,
        )

    def optimise(stage: Any, arguments: Any) -> None:
        prompts = share_rows(stage, lambda rejected: [
            {"prompt": row["prompt"]} for row in read_prompts(config.data, config.split, rejected)
        ])
        trainer = make_rloo_trainer(
            arguments, policy=config.model_name_or_path, reference=reference, reward_model=config.reward_model,
            prompts=prompts, trust_remote_code=config.trust_remote_code,
        )
        train_and_save("rl", trainer, stage)

    find_files(config.data)
    reference = config.reference or config.model_name_or_path
    inputs = {"data": config.data, "model": config.model_name_or_path, "reward_model": config.reward_model,
              "reference": reference}
    return run_training_session("rl", config, inputs, make_arguments, optimise)
