"""The gold world on disk: its pairs as files, and a base model that has read its text."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmkit.core.checks import raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage
from rmkit.data.synthetic import draw_demonstrations, write_dataset
from rmkit.data.synthetic.dataset import draw_prompts
from rmkit.data.synthetic.judgments import draw_judgments, draw_verdicts
from rmkit.judges.prompts import JUDGE_PROMPTS, META_JUDGE_PROMPTS
from rmkit.judges.sanitize import quote
from rmkit.models.tiny import build_language_model, build_tokenizer
from rmkit.training.sft import train_language_model

BASE_MODEL = "base_model"


@dataclass
class SyntheticConfig:
    """The size of the embedded gold world: pairs per split (`test` for each of the four test splits) and model."""

    output_dir: str
    train: int = 4000
    validation: int = 500
    test: int = 250
    demonstrations: int = 12000
    hidden: int = 128
    layers: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test", "demonstrations", "layers"):
            if getattr(self, name) < 1:
                raise_input_error(name, "at least 1", getattr(self, name), f"Raise {name}.")
        if self.hidden < 32 or self.hidden % 32:
            raise_input_error("hidden", "a multiple of 32, the size of an attention head", self.hidden, "128 is usual.")


def synthetic(config: SyntheticConfig) -> Path:
    """Write `train.jsonl`, `validation.jsonl`, `test.jsonl` and the folder `base_model`; returns the stage's folder."""
    with open_stage(config.output_dir, "gold", as_dict(config), {}) as stage:
        if stage.done:
            return stage.directory
        write_dataset(
            stage.directory, train=config.train, validation=config.validation, test=config.test, seed=config.seed
        )
        demonstrations = list(draw_demonstrations(config.demonstrations, seed=config.seed))
        tokenizer = build_tokenizer(f"{row['prompt']} {row['response']}" for row in demonstrations)
        model_seed = derive_seed(config.seed, "base model")
        model = build_language_model(tokenizer, hidden=config.hidden, layers=config.layers, seed=model_seed)
        train_language_model(model, tokenizer, demonstrations, stage.directory / BASE_MODEL, seed=model_seed)
        return stage.directory


WORLD = "world"
PROMPTS, EVALUATION, LESSONS = "prompts.jsonl", "evaluation.jsonl", "lessons.jsonl"


@dataclass
class SyntheticLMConfig:
    """A gold world with `train`, `validation` and `test` pairs, prompts without responses, and its language model.

    prompts, evaluation: how many to sample on and to measure on, apart from those of the pairs.
    instructions, judgments, verdicts: demonstrations of answering (of quality `worst` to 1), of judging and of
    meta-judging, from which the model learns all it knows.
    """

    output_dir: str
    train: int = 4000
    validation: int = 500
    test: int = 250
    prompts: int = 2000
    evaluation: int = 200
    instructions: int = 6000
    worst: float = 0.0
    judgments: int = 12000
    verdicts: int = 6000
    hidden: int = 128
    layers: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test", "prompts", "evaluation", "instructions", "judgments", "verdicts",
                     "layers"):
            if getattr(self, name) < 1:
                raise_input_error(name, "at least 1", getattr(self, name), f"Raise {name}.")
        if self.hidden < 32 or self.hidden % 32:
            raise_input_error("hidden", "a multiple of 32, the size of an attention head", self.hidden, "128 is usual.")
        if not 0 <= self.worst <= 1:
            raise_input_error("worst", "a quality in [0, 1]", self.worst, "0 leaves the policy most to learn.")


def make_synthetic_lm(config: SyntheticLMConfig) -> Path:
    """Make what there is none of; returns the folder.

    In it, `world` has `train.jsonl`, `validation.jsonl` and `test.jsonl`, `prompts.jsonl` and `evaluation.jsonl` with
    each prompt's `request`, and `lessons.jsonl`; `base_model` is the model that has learnt from these.
    """
    folder = Path(config.output_dir)
    with open_stage(folder / WORLD, "world", as_dict(config), {}) as stage:
        if not stage.done:
            fill(stage.directory, config)
    with open_stage(folder / BASE_MODEL, "school", as_dict(config), {"world": folder / WORLD}) as stage:
        if not stage.done:
            train_base_model(stage.directory, folder / WORLD / LESSONS, config)
    return folder


def fill(folder: Path, config: SyntheticLMConfig) -> None:
    """Write the world."""
    write_dataset(folder, train=config.train, validation=config.validation, test=config.test, seed=config.seed)
    write_rows(folder / PROMPTS, draw_prompts("train", config.prompts, seed=config.seed))
    write_rows(folder / EVALUATION, draw_prompts("in_distribution", config.evaluation, seed=config.seed))
    write_rows(folder / LESSONS, demonstrations(config))


def train_base_model(folder: Path, lessons: Path, config: SyntheticLMConfig) -> None:
    """Train a model on the lessons, all of their text: what is judged is such text as it will write."""
    rows = [json.loads(line) for line in lessons.read_text("utf-8").splitlines()]
    tokenizer = build_tokenizer(f"{row['prompt']} {row['response']}" for row in rows)
    seed = derive_seed(config.seed, "school")
    model = build_language_model(tokenizer, hidden=config.hidden, layers=config.layers, seed=seed)
    train_language_model(model, tokenizer, rows, folder, seed=seed)


def demonstrations(config: SyntheticLMConfig) -> Iterator[dict[str, str]]:
    """All demonstrations: `prompt`, as it will be asked, and `response`."""
    yield from draw_demonstrations(config.instructions, seed=config.seed, worst=config.worst)
    for row in draw_judgments(config.judgments, seed=config.seed):
        shown = JUDGE_PROMPTS["gold"].ask(request=quote(row["prompt"]), first=quote(row["response"]))
        yield {"prompt": shown[0]["content"], "response": row["judgment"]}
    for row in draw_verdicts(config.verdicts, seed=config.seed):
        first, second = map(quote, row["judgments"])
        shown = META_JUDGE_PROMPTS["gold"].ask(
            request=quote(row["prompt"]), response=quote(row["response"]), first=first, second=second
        )
        yield {"prompt": shown[0]["content"], "response": row["verdict"]}


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
