"""The gold world on disk: its pairs as files, and a base model that has read its text."""

from dataclasses import dataclass
from pathlib import Path

from rmkit.core.checks import refuse
from rmkit.core.configuration import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stages import open_stage
from rmkit.data.gold import draw_demonstrations, write_gold
from rmkit.models.tiny import build_language_model, build_tokenizer
from rmkit.training.language_model import train_language_model

BASE_MODEL = "base_model"


@dataclass
class GoldConfig:
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
                refuse(name, "at least 1", getattr(self, name), f"Raise {name}.")
        if self.hidden < 32 or self.hidden % 32:
            refuse("hidden", "a multiple of 32, the size of an attention head", self.hidden, "128 is usual.")


def make_gold(config: GoldConfig) -> Path:
    """Write `train.jsonl`, `validation.jsonl`, `test.jsonl` and the folder `base_model`; returns the stage's folder."""
    with open_stage(config.output_dir, "gold", as_dict(config), {}) as stage:
        if stage.done:
            return stage.directory
        write_gold(
            stage.directory, train=config.train, validation=config.validation, test=config.test, seed=config.seed
        )
        demonstrations = list(draw_demonstrations(config.demonstrations, seed=config.seed))
        tokenizer = build_tokenizer(f"{row['prompt']} {row['response']}" for row in demonstrations)
        model_seed = derive_seed(config.seed, "base model")
        model = build_language_model(tokenizer, hidden=config.hidden, layers=config.layers, seed=model_seed)
        train_language_model(model, tokenizer, demonstrations, stage.directory / BASE_MODEL, seed=model_seed)
        return stage.directory
