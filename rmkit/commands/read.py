"""The stage `read`: preference data of any usual shape in, checked and split pairs out."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import Stage, open_stage
from rmkit.data.label_noise import inject_flips
from rmkit.data.reading import ReadSummary, Source, read_pairs
from rmkit.data.schema import check_columns
from rmkit.data.sources import find_files
from rmkit.data.splits import SPLITS, assign_split, check_fractions
from rmkit.preferences.noise import NoiseKind


@dataclass
class LabelNoise:
    """Label flips planted in the training split, to measure what finds them: which pairs, and what share."""

    kind: NoiseKind
    rate: float


@dataclass
class ReadConfig:
    """Read preference pairs from `data` (JSON lines, Parquet, a `datasets` folder, a folder of files, a hub name).

    `validation` and `test` are data of their own; without them these fractions of the prompts in `data` are set
    apart, a prompt's pairs staying together. `columns` maps our column names to theirs. `split` is asked of a
    dataset or of the hub for `data`, "validation" and "test" for the others. With `model_name_or_path` and
    `max_length`, pairs whose responses do not fit are set aside. `label_noise` flips training labels on purpose.
    """

    data: str
    output_dir: str
    validation: str | None = None
    test: str | None = None
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    columns: dict[str, str] = field(default_factory=dict)
    split: str = "train"
    model_name_or_path: str | None = None
    max_length: int | None = None
    seed: int = 0
    label_noise: LabelNoise | None = None

    def __post_init__(self) -> None:
        check_columns(self.columns)
        check_fractions(self.validation_fraction, self.test_fraction)
        if (self.model_name_or_path is None) != (self.max_length is None):
            raise_input_error(
                "model_name_or_path and max_length",
                "both or neither",
                Verbatim(f"{self.model_name_or_path} and {self.max_length}"),
                "Lengths are counted in its tokens.",
            )
        if self.max_length is not None and self.max_length < 1:
            raise_input_error("max_length", "at least 1 token", self.max_length, "Take the length that you train with.")
        if self.label_noise is not None and not 0 <= self.label_noise.rate <= 1:
            raise_input_error(
                "label_noise.rate", "a share of the pairs in [0, 1]", self.label_noise.rate, "Write 0.3 for 30 %."
            )


def read(config: ReadConfig) -> Path:
    """Write train, validation and test pairs, and a quarantine of the rows that cannot be used; their folder.

    The folder's record says rows in, rows out by split, rows quarantined by reason, prompts that `max_length` cuts
    and labels flipped on purpose.
    """
    sources = list_sources(config)
    inputs: dict[str, str | Path] = {}
    for role, source in sources.items():
        find_files(source.data)  # an unreadable one is refused before the output folder is touched
        inputs[role] = source.data
    if config.model_name_or_path is not None:
        inputs["model_name_or_path"] = config.model_name_or_path
    with open_stage(config.output_dir, "read", as_dict(config), inputs) as stage:
        if not stage.done:
            try:
                read_splits(stage, config, list(sources.values()))
            except OSError as error:
                raise_input_error(
                    f"read: output_dir {config.output_dir}", "a disk that can be written", Verbatim(error), "Free it."
                )
        print("\n".join(stage.record["report"]))
    return stage.directory


def list_sources(config: ReadConfig) -> dict[str, Source]:
    """What is read, by role, each with the way its prompts go."""
    route = functools.partial(
        assign_split,
        seed=config.seed,
        validation_fraction=0.0 if config.validation else config.validation_fraction,
        test_fraction=0.0 if config.test else config.test_fraction,
    )
    sources = {"data": Source(config.data, config.split, route)}
    if config.validation:
        sources["validation"] = Source(config.validation, "validation", lambda prompt: "validation")
    if config.test:
        sources["test"] = Source(config.test, "test", lambda prompt: "test")
    return sources


def read_splits(stage: Stage, config: ReadConfig, sources: list[Source]) -> None:
    """Read everything into the stage's folder and its record."""
    tokenizer = None
    if config.model_name_or_path is not None:
        from rmkit.models.reward_model import load_tokenizer  # torch and transformers' models, only where lengths count

        tokenizer = load_tokenizer(config.model_name_or_path)
    reading = read_pairs(
        sources, stage.directory, columns=config.columns, tokenizer=tokenizer, max_length=config.max_length or 0
    )
    wanted = {"train": True, "validation": config.validation_fraction > 0, "test": config.test_fraction > 0}
    for split, is_wanted in wanted.items():
        if is_wanted and split not in reading.rows_out:
            raise_input_error(
                f"split {split}",
                "at least one pair",
                Verbatim(f"none of {reading}"),
                "Give more rows or another seed, or set the split's fraction to 0 to go without it.",
            )
    planted = 0
    if config.label_noise is not None:
        planted = inject_flips(
            stage.directory / "train.parquet",
            kind=config.label_noise.kind,
            rate=config.label_noise.rate,
            seed=derive_seed(config.seed, "planted noise"),
        )
    stage.record.update(
        rows_in=reading.rows_in,
        rows_out=reading.rows_out,
        quarantined=reading.quarantined,
        prompts_cut=reading.prompts_cut,
        n_flipped=planted,
        report=[str(reading), *(f"  {line}" for line in [*reading.list_reasons(), *describe(reading, planted)])],
    )


def describe(reading: ReadSummary, planted: int) -> list[str]:
    """The splits, and what will be cut or was flipped, a line each."""
    lines = [", ".join(f"{split} {reading.rows_out[split]}" for split in SPLITS if split in reading.rows_out)]
    if reading.prompts_cut:
        lines.append(f"prompts longer than max_length, cut from the left in training: {reading.prompts_cut}")
    if planted:
        lines.append(f"labels flipped on purpose in train: {planted}")
    return lines
