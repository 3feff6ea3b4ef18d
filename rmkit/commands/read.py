"""`rmkit read`: preference data of any usual format in, checked and split pairs out."""

from pathlib import Path
from typing import Literal

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, output_settings
from rmkit.core.stage import open_stage


@configuration
class LabelNoise:
    """Labels of training pairs that are flipped on purpose, to measure how well they are found."""

    kind: Literal["uniform", "small_gap", "longer"] = option(
        help="Which labels: any, those of pairs with a small gold gap, or those that prefer the shorter response."
    )
    rate: float = option(help="Fraction of the training pairs that is flipped.", ge=0, le=1)


@configuration
class ReadConfig:
    """Read preference pairs and split them by prompt. Rows that cannot be used go into quarantine.jsonl."""

    data: str = option(help="JSON lines, Parquet, a `datasets` folder, a folder of files, or a dataset of the hub.")
    output_dir: str = option(help="Folder to write train, validation and test pairs to.")
    validation: str | None = option(None, "Separate validation data, instead of a fraction of `data`.")
    test: str | None = option(None, "Separate test data, instead of a fraction of `data`.")
    validation_fraction: float = option(0.1, "Fraction of the prompts in `data` for validation.", ge=0, lt=1)
    test_fraction: float = option(0.1, "Fraction of the prompts in `data` for testing.", ge=0, lt=1)
    columns: dict[str, str] = option(
        default_factory=dict, help="Names of the columns in the data, such as {chosen: winner}."
    )
    split: str = option("train", "Split of `data` to read, where it is a dataset with splits.")
    model_name_or_path: str | None = option(None, "Model whose tokenizer counts lengths; needs `max_length`.")
    max_length: int | None = option(None, "Pairs with a response of more tokens are rejected.", ge=1)
    label_noise: LabelNoise | None = option(None, "Labels of training pairs that are flipped on purpose.")
    seed: int = option(0, "Seed of the splits and of the label noise.")

    def __post_init__(self) -> None:
        from rmkit.data.schema import check_columns

        check_columns(self.columns)
        if self.validation_fraction + self.test_fraction >= 1:
            total = Verbatim(self.validation_fraction + self.test_fraction)
            raise_input_error("validation_fraction + test_fraction", "a sum below 1", total, "Leave pairs to train on.")
        if (self.model_name_or_path is None) != (self.max_length is None):
            seen = Verbatim(f"{self.model_name_or_path} and {self.max_length}")
            raise_input_error(
                "model_name_or_path and max_length", "both or neither", seen, "Lengths are counted in its tokens."
            )


def read(config: ReadConfig) -> Path:
    """Write train, validation and test pairs and the rejected rows; returns the folder.

    `stage.json` has the number of rows read, of pairs by split, of rejected rows by reason, of prompts that
    `max_length` truncates in training, and of flipped labels.
    """
    from functools import partial

    from rmkit.core.seeds import derive_seed
    from rmkit.data.label_noise import inject_flips
    from rmkit.data.reading import Source, read_pairs
    from rmkit.data.sources import find_files
    from rmkit.data.splits import SPLITS, assign_split

    split_of = partial(
        assign_split,
        seed=config.seed,
        validation_fraction=0.0 if config.validation else config.validation_fraction,
        test_fraction=0.0 if config.test else config.test_fraction,
    )
    sources = [Source(config.data, config.split, split_of)]
    if config.validation:
        sources.append(Source(config.validation, "validation", lambda prompt: "validation"))
    if config.test:
        sources.append(Source(config.test, "test", lambda prompt: "test"))
    for source in sources:
        find_files(source.data)  # raises for unreadable data before the output folder is touched
    roles = ("data", "validation", "test", "model_name_or_path")
    inputs = {role: getattr(config, role) for role in roles if getattr(config, role) is not None}
    with open_stage(config.output_dir, "read", output_settings(config), inputs) as stage:
        if not stage.done:
            tokenizer = None
            if config.model_name_or_path is not None:
                from rmkit.models.reward_model import load_tokenizer

                tokenizer = load_tokenizer(config.model_name_or_path)
            n_flipped = 0
            try:
                summary = read_pairs(
                    sources, stage.directory, columns=config.columns, tokenizer=tokenizer, max_length=config.max_length
                )
                for split in SPLITS:
                    if split not in summary.rows_out and (split == "train" or getattr(config, f"{split}_fraction") > 0):
                        hint = "Give more rows or another seed, or set the split's fraction to 0 to go without it."
                        raise_input_error(f"split {split}", "at least one pair", Verbatim(f"none of {summary}"), hint)
                if config.label_noise is not None:
                    n_flipped = inject_flips(
                        stage.directory / "train.parquet",
                        kind=config.label_noise.kind,
                        rate=config.label_noise.rate,
                        seed=derive_seed(config.seed, "planted noise"),
                    )
            except OSError as error:
                name = f"read: output_dir {config.output_dir}"
                raise_input_error(name, "a disk that can be written", Verbatim(error), "Free it.")
            lines = [", ".join(f"{split} {summary.rows_out[split]}" for split in SPLITS if split in summary.rows_out)]
            if summary.prompts_truncated:
                lines.append(f"prompts longer than max_length, truncated in training: {summary.prompts_truncated}")
            if n_flipped:
                lines.append(f"labels flipped on purpose in train: {n_flipped}")
            stage.record.update(
                rows_in=summary.rows_in,
                rows_out=summary.rows_out,
                quarantined=summary.quarantined,
                prompts_truncated=summary.prompts_truncated,
                n_flipped=n_flipped,
                report=[str(summary), *(f"  {line}" for line in [*summary.list_reasons(), *lines])],
            )
        print("\n".join(stage.record["report"]))
    return stage.directory
