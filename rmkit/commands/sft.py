"""`rmkit sft`: a language model fine-tuned on completions, on DeepSpeed."""

from pathlib import Path
from typing import Any

from rmkit.core.config import configuration, option
from rmkit.training.settings import TrainingSettings


@configuration
class SftConfig(TrainingSettings):
    """Fine-tune a language model on completions with TRL; the loss is that of the completions alone.

    All keys of Hugging Face's TrainingArguments are known. An interrupted run resumes from its last complete
    checkpoint (`save_steps`).
    """

    data: str = option(
        help="Rows of prompt and completion, or of messages whose last turn is the completion: file, folder, hub name."
    )
    model_name_or_path: str = option(help="Language model: folder or hub name.")
    split: str = option("train", "Split of the data.")
    max_length: int = option(
        1024, "Tokens of prompt and completion; prompts are cut from the left, rows with longer completions dropped.",
        ge=2,
    )
    learning_rate: float = option(2e-5, "Learning rate at its highest.")
    num_train_epochs: float = option(1.0, "Epochs, where max_steps is not set.")
    lr_scheduler_type: str = option("cosine", "Schedule of the learning rate.")
    save_steps: float = option(100, "Steps between two checkpoints.")
    seed: int = option(0, "Seed of all randomness.")


def sft(config: SftConfig) -> Path:
    """Train, and write model and tokenizer into the stage's folder; the record has the curves, "log_history".

    Under a launcher, every rank calls this.
    """
    from rmkit.data.completions import COMPLETION, encode_sides, read_completions
    from rmkit.data.sources import find_files
    from rmkit.models.reward_model import check_positions, load_language_model
    from rmkit.training.config import build_arguments
    from rmkit.training.rl import import_trl, load_policy_tokenizer
    from rmkit.training.session import record_dropped_rows, run_training_session, share_rows, train_and_save
    from rmkit.training.sft import make_sft_trainer

    def make_arguments() -> Any:
        return build_arguments(
            import_trl().SFTConfig, "sft", config, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None,
            remove_unused_columns=False, dataloader_pin_memory=False,
        )

    def fit(stage: Any, arguments: Any) -> None:
        model = load_language_model(config.model_name_or_path, trust_remote_code=config.trust_remote_code)
        tokenizer = load_policy_tokenizer(config.model_name_or_path, model, config.trust_remote_code)
        rows = share_rows(stage, lambda rejected: read_completions(config.data, config.split, rejected))
        encoded = encode_sides(rows, tokenizer, config.max_length, (COMPLETION,))
        check_positions(model, record_dropped_rows("sft", stage, rows, encoded))
        train_and_save("sft", make_sft_trainer(arguments, model=model, tokenizer=tokenizer, rows=encoded), stage)

    find_files(config.data)
    inputs = {"data": config.data, "model": config.model_name_or_path}
    return run_training_session("sft", config, inputs, make_arguments, fit)
