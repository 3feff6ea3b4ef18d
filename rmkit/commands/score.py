"""`rmkit score`: rewards of any number of responses to each prompt, from disk to disk."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rmkit.core.checks import raise_input_error
from rmkit.data.token_batches import MAX_TOKENS
from rmkit.models.score_file import score_file


@dataclass
class ScoreConfig:
    """Score the responses in `data` (JSON lines, Parquet, a `datasets` folder, a folder of files, a hub name).

    A row has `prompt`, and `responses` (a list; `completions` will do) or `response`, as text or chat messages; `split`
    is asked of a dataset or of the hub. The reward model `model_name_or_path` reads `max_tokens_per_batch` tokens, or one
    response, in `dtype`; prompts are cut from the left to fit `max_length`. A run that was killed goes on where it was.
    """

    data: str
    model_name_or_path: str
    output_dir: str
    split: str = "train"
    max_length: int = 1024
    max_tokens_per_batch: int = MAX_TOKENS
    dtype: Literal["float32", "bfloat16"] = "float32"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for name in ("max_length", "max_tokens_per_batch"):
            if getattr(self, name) < 1:
                raise_input_error(name, "at least 1 token", getattr(self, name), "The defaults are usual.")


def score(config: ScoreConfig) -> Path:
    """Write `scored.jsonl`, the rows with their `rewards` [response], and `quarantine.jsonl`; the stage's folder."""
    return score_file(**asdict(config))
