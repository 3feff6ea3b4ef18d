"""The section `meta` of a run that trains reward models by MetaRM: what it may hold, and what it becomes."""

from dataclasses import dataclass
from typing import Any

from rmkit.core.configuration import as_dict
from rmkit.stages.running import section


@dataclass(kw_only=True)
class MetaSettings:
    """The keys of `rmkit train` that are MetaRM's alone."""

    meta_data: str
    meta_learning_rate: float
    meta_batch_size: int | None = None
    meta_every: int = 1


def plan_meta(settings: dict[str, Any], samples: str) -> dict[str, Any]:
    """What the section adds to a training, with the file of samples that the run gives it.

    Raises `InputError` for keys of the training's others, which would set apart more than the ascent.
    """
    return as_dict(section(MetaSettings, settings, {}, "meta", meta_data=samples))
