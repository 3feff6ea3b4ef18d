"""How the models of benchmarks/metarm/metarm.py are trained, and how large that study is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.contrastive.tasks import GOLD_PAIRS, GOLD_SETTINGS
from benchmarks.label_repair.data import FAST_WORLD, MAX_LENGTH, SIZES
from benchmarks.metarm.iterative_rlhf import START

VARIANTS = {"full": (1, 1), "quarter": (4, 1), "full, each 4th step": (1, 4)}  # share of the pairs' number, every


@dataclass(frozen=True)
class Design:
    """How the compared models are trained: from the base model on, or from a model that was trained by `start`."""

    results: str
    settings: Mapping[str, Any]
    pairs: int
    step_sizes: tuple[float, ...]
    tuning_seeds: tuple[int, ...] = (5,)
    start: Mapping[str, Any] | None = None

    def pick_seeds(self, count: int) -> list[int]:
        """The first so many seeds that nothing is tuned with."""
        return [seed for seed in range(count + len(self.tuning_seeds)) if seed not in self.tuning_seeds][:count]

    def vary(self, name: str) -> dict[str, int]:
        """The settings of a variant of the ascent."""
        part, every = VARIANTS[name]
        return {"meta_batch_size": self.settings["per_device_train_batch_size"] // part, "meta_steps": every}


SHARED = {"max_length": MAX_LENGTH, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
SCRATCH = Design(
    results="metarm_scratch", pairs=GOLD_PAIRS, step_sizes=(0.03, 0.1, 0.3, 1.0),
    settings={**GOLD_SETTINGS, "learning_rate": 5e-4},  # the best of benchmarks/contrastive/contrastive.py for plain Bradley-Terry
)
TRAINED = Design(  # the trainings of benchmarks/metarm/iterative_rlhf.py
    results="metarm", pairs=SIZES["train"], step_sizes=(0.1, 0.3, 1.0, 3.0), tuning_seeds=(5, 6, 7),
    start={**START, **SHARED},
    settings={"learning_rate": 2e-4, "max_steps": 60, "per_device_train_batch_size": 32, "warmup_steps": 5, **SHARED},
)


@dataclass(frozen=True)
class Scale:
    """How large the study is: `distances` in nats, none of which can pass the logarithm of `pool`."""

    pool: int = 64  # responses of the SFT policy to a prompt
    prompts: Mapping[str, int] = field(default_factory=lambda: {"meta": 320, "test": 240})
    distances: tuple[float, ...] = (0.5, 1.5, 2.5)
    world: Mapping[str, Any] = field(default_factory=dict)  # of a smaller one

    @property
    def middle(self) -> float:
        """The distance at which variants are compared."""
        return self.distances[len(self.distances) // 2]


FAST = Scale(pool=16, prompts={"meta": 24, "test": 16}, distances=(0.5,), world=FAST_WORLD)
FAST_DESIGN = replace(
    TRAINED, pairs=200, step_sizes=(1.0,), tuning_seeds=(1,), settings={**TRAINED.settings, "max_steps": 4}
)
