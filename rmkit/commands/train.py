"""`rmkit train`: a reward model trained on pairs, on DeepSpeed, saved as a standard sequence-classification folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, non_default_settings, option
from rmkit.training.settings import RewardSettings, TrainingSettings, check_meta, check_reward_settings

if TYPE_CHECKING:
    from rmkit.core.stage import Stage
    from rmkit.training.config import RewardConfig

META = "meta"  # subfolder with the rows of the meta set that were used


@configuration
class TrainConfig(RewardSettings, TrainingSettings):  # type: ignore[misc]  # a Literal where they have str
    """Train a reward model on pairs.

    All keys of Hugging Face's TrainingArguments are known. An interrupted run resumes from its last complete
    checkpoint (`save_steps`). Under ZeRO-3 each process loads and holds its part of the model; the first one holds all
    of it in host memory while it saves the model or merges adapters.
    """

    data: str = option(help="Folder of a stage with train.parquet, or a Parquet file of pairs.")
    model_name_or_path: str = option(help="Base model: folder or hub name.")
    evaluation_data: str | None = option(
        None, "Pairs that eval_strategy and the end of training measure: a stage's validation pairs or a file."
    )
    meta_data: str | None = option(
        None, "Prompts with several unlabelled responses each, for MetaRM: a file, folder or hub name."
    )
    dtype: Literal["float32", "bfloat16"] = option("float32", "Type of the parameters.", advanced=True)
    lora_rank: int | None = option(None, "Rank of LoRA adapters, which are merged into the saved model.", ge=1)
    lora_alpha: int = option(32, "Scale of the LoRA adapters, over lora_rank.", ge=1, advanced=True)
    lora_dropout: float = option(0.0, "Dropout of the LoRA adapters' input.", ge=0, lt=1, advanced=True)

    def __post_init__(self) -> None:
        TrainingSettings.__post_init__(self)
        check_reward_settings(self)
        check_meta(self.meta_learning_rate, self.meta_data is not None)
        if self.eval_strategy != "no" and not self.evaluation_data:
            raise_input_error(
                "evaluation_data", "pairs for eval_strategy to measure", Verbatim("none"), "Name them, or set it to no."
            )


def train(config: TrainConfig) -> Path:
    """Train, and write the model into the stage's folder itself, which every library then loads by its path.

    Beside the model: tokenizer, chat template, README.md (the model card), `checkpoint-N` folders, and stage.json
    with the learning curves under "log_history". Under a launcher, every rank calls this.
    """
    from rmkit.data.parquet import split_path
    from rmkit.data.sources import find_files
    from rmkit.training.config import RewardConfig, build_arguments, check_training
    from rmkit.training.session import run_training_session

    check_training(config)
    split_path(config.data, "train")  # before anything is started or emptied
    if config.evaluation_data:
        split_path(config.evaluation_data, "validation")
    if config.meta_data:
        find_files(config.meta_data)
    inputs = {"data": config.data, "model": config.model_name_or_path, "evaluation_data": config.evaluation_data,
              "meta_data": config.meta_data}
    return run_training_session(
        "train",
        config,
        {name: path for name, path in inputs.items() if path is not None},
        lambda: build_arguments(RewardConfig, "train", config),
        lambda stage, arguments: fit(stage, config, arguments),
    )


def fit(stage: "Stage", config: TrainConfig, arguments: "RewardConfig") -> None:
    """Train on this rank; the first one writes the model, its card and the stage's record."""
    import torch

    from rmkit.data.collators import encode_pairs
    from rmkit.data.parquet import load_split, read_column
    from rmkit.models.reward_model import check_positions, load_reward_model, load_tokenizer
    from rmkit.training.distributed import is_first_rank
    from rmkit.training.lora import add_lora, save_merged
    from rmkit.training.metarm import load_meta_set
    from rmkit.training.model_card import describe_data, write_model_card
    from rmkit.training.reward_trainer import RewardTrainer
    from rmkit.training.session import train_and_save

    def load_base_model() -> Any:
        return load_reward_model(
            config.model_name_or_path, tokenizer, seed=config.seed, dtype=getattr(torch, config.dtype),
            trust_remote_code=config.trust_remote_code,
        )

    tokenizer = load_tokenizer(config.model_name_or_path, trust_remote_code=config.trust_remote_code)
    pairs = load_split(config.data, "train")
    datasets = {"train_dataset": encode_pairs(pairs, tokenizer, config.max_length)}
    if config.meta_data:
        datasets["meta_dataset"], stage.record["meta_data"] = load_meta_set(
            config.meta_data, stage.directory / META, tokenizer, config.max_length
        )
    model = load_base_model()
    for dataset in datasets.values():
        check_positions(model, int(read_column(dataset, "length", "int32").max()))
    if config.evaluation_data:
        evaluation_pairs = load_split(config.evaluation_data, "validation")
        datasets["eval_dataset"] = encode_pairs(evaluation_pairs, tokenizer, config.max_length)
    if config.lora_rank:
        model = add_lora(model, rank=config.lora_rank, alpha=config.lora_alpha, dropout=config.lora_dropout)
    trainer = RewardTrainer(model, arguments, processing_class=tokenizer, **datasets)
    metrics: dict[str, Any] = {}

    def evaluate_and_save() -> None:
        if config.evaluation_data:
            metrics.update(trainer.evaluate())
        if config.lora_rank:
            save_merged(trainer, load_base_model, stage.directory)
        else:
            trainer.save_model(str(stage.directory))

    train_and_save("train", trainer, stage, evaluate_and_save)
    stage.record.update(rows=len(pairs), metrics=metrics)
    if is_first_rank():
        main_settings = {name: getattr(config, name) for name in ("seed", "learning_rate", "num_train_epochs")}
        write_model_card(
            stage.directory,
            base_model=config.model_name_or_path,
            data=describe_data(config.data, pairs),
            settings=main_settings | non_default_settings(config),
            metrics=metrics,
        )
