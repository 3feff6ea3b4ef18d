"""Steps of a command that runs other commands: functions with their configurations, built before the first one runs."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from rmkit.core.config import build_section

Config = TypeVar("Config")
Result = TypeVar("Result")
Steps = dict[str, partial[Any]]  # by name


def make_step(
    function: Callable[[Config], Result], cls: type[Config], settings: Mapping[str, Any], shared: Mapping[str, Any],
    section: str, **fixed: Any,
) -> partial[Result]:
    """`function` with its configuration `cls`, built by `build_section` from the settings of a section."""
    return partial(function, build_section(cls, settings, shared, section, **fixed))


def get_config(step: partial[Any]) -> Any:
    """The configuration of a step of `make_step`."""
    return step.args[0]


def run_steps(steps: Steps) -> dict[str, Any]:
    """Call the steps in order; returns their results by name."""
    return {name: step() for name, step in steps.items()}
