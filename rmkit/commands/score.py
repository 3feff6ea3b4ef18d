"""`rmkit score`: rewards of any number of responses to each prompt."""

from pathlib import Path
from typing import Literal

from rmkit.core.config import as_dict, configuration, option


@configuration
class ScoreConfig:
    """Score the responses in a file or dataset with a reward model; an interrupted run is resumed."""

    data: str = option(
        help="Rows with prompt and responses (or response): JSON lines, Parquet, a datasets folder, a hub name."
    )
    model_name_or_path: str = option(help="Reward model: a folder or a hub name.")
    output_dir: str = option(help="Folder for the scored rows.")
    split: str = option("train", "Split of a dataset.")
    max_length: int = option(1024, "Tokens of a prompt with its response; longer prompts are cut from the left.", ge=1)
    max_tokens_per_batch: int = option(16384, "Tokens read at once.", ge=1, advanced=True)
    dtype: Literal["float32", "bfloat16"] = option("float32", "Precision of the model.")
    trust_remote_code: bool = option(False, "Run model code from the hub.", advanced=True)


def score(config: ScoreConfig) -> Path:
    """Write `scored.jsonl`, the rows with their `rewards` [response], and `quarantine.jsonl`; the stage's folder."""
    from rmkit.models.score_file import score_file

    return score_file(**as_dict(config))
