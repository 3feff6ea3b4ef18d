"""`rmkit dpo`: a language model optimised on pairs by direct preference optimisation, on DeepSpeed."""

from pathlib import Path
from typing import Any, Literal

from rmkit.core.config import configuration, option
from rmkit.training.settings import TrainingSettings


@configuration
class DpoConfig(TrainingSettings):
    """Optimise a language model on pairs by DPO with TRL; targets and margins of the pairs are used.

    All keys of Hugging Face's TrainingArguments are known. An interrupted run resumes from its last complete
    checkpoint (`save_steps`).
    """

    data: str = option(help="Folder of a stage with train.parquet, or a Parquet file of pairs.")
    model_name_or_path: str = option(help="Language model: folder or hub name.")
    reference: str | None = option(None, "Reference model; by default the model before training.")
    beta: float = option(0.1, "Reward units per nat of log-ratio.", gt=0)
    label_smoothing: float = option(0.0, "Share of labels taken to be flipped.", ge=0, lt=0.5)
    smoothing: Literal["conservative", "robust"] = option("conservative", "How label_smoothing changes the loss.")
    max_length: int = option(
        1024, "Tokens of prompt and response; prompts are cut from the left, pairs with longer responses dropped.", ge=2
    )
    learning_rate: float = option(1e-6, "Learning rate at its highest.")
    num_train_epochs: float = option(1.0, "Epochs, where max_steps is not set.")
    lr_scheduler_type: str = option("cosine", "Schedule of the learning rate.")
    save_steps: float = option(100, "Steps between two checkpoints.")
    seed: int = option(0, "Seed of all randomness.")


def dpo(config: DpoConfig) -> Path:
    """Optimise, and write policy and tokenizer into the stage's folder; the record has the curves, "log_history".

    Under a launcher, every rank calls this.
    """
    from functools import partial

    from rmkit.data.completions import encode_sides
    from rmkit.data.parquet import load_split, split_path
    from rmkit.models.reward_model import check_positions, load_language_model
    from rmkit.training.config import build_arguments
    from rmkit.training.dpo import SIDES, make_dpo_trainer
    from rmkit.training.rl import import_trl, load_policy_tokenizer
    from rmkit.training.session import record_dropped_rows, run_training_session, train_and_save

    def make_arguments() -> Any:
        return build_arguments(
            import_trl().DPOConfig, "dpo", config, precompute_ref_log_probs=True, disable_dropout=True, max_length=None,
            label_smoothing=0.0, remove_unused_columns=False, dataloader_pin_memory=False,
        )

    def optimise(stage: Any, arguments: Any) -> None:
        load = partial(load_language_model, trust_remote_code=config.trust_remote_code)
        policy = load(config.model_name_or_path)
        reference = None if config.reference is None else load(config.reference)
        tokenizer = load_policy_tokenizer(config.model_name_or_path, policy, config.trust_remote_code)
        pairs = load_split(config.data, "train")
        encoded = encode_sides(pairs, tokenizer, config.max_length, SIDES)
        check_positions(policy, record_dropped_rows("dpo", stage, pairs, encoded))
        trainer = make_dpo_trainer(
            arguments, model=policy, reference=reference, tokenizer=tokenizer, pairs=encoded,
            label_smoothing=config.label_smoothing, smoothing=config.smoothing,
        )
        train_and_save("dpo", trainer, stage)

    split_path(config.data, "train")
    reference_path = config.reference or config.model_name_or_path
    inputs = {"data": config.data, "model": config.model_name_or_path, "reference": reference_path}
    return run_training_session("dpo", config, inputs, make_arguments, optimise)
