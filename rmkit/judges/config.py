"""The registry of judges: the settings of each kind.

A new judge is a settings class in `JUDGES` whose `module` has `judge_spec(settings)` and `build_judge(settings, ...)`,
see `load_judge`. This module imports neither torch nor numpy, so that `--help` is fast.
"""

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import as_dict, build_config, configuration, option

if TYPE_CHECKING:
    from rmkit.judges.base import Judge, JudgeSpec


@configuration
class LLMJudgeConfig:
    """A language model that scores single responses or, with `prompt: pairwise`, compares two in both orders."""

    module: ClassVar[str] = "rmkit.judges.language_model"
    kind: Literal["llm"] = option("llm", "Kind of judge.")
    model_name_or_path: str = option(help="Folder or hub name of the model, or its name on the server at base_url.")
    prompt: Literal["additive_5", "scale_100", "synthetic", "pairwise"] = option(
        "additive_5", "Scores 0 to 5, 0 to 100, 0 to 13 (the synthetic data's own model), or the better one of two."
    )
    score_from: Literal["text", "logprobs"] = option(
        "text", "The score as written, or the expected score over the token probabilities at its position."
    )
    samples: int = option(1, "Answers to each question.", ge=1)
    temperature: float = option(0.8, "Sampling temperature; 0 is greedy.", ge=0)
    top_p: float = option(0.95, "Nucleus sampling.", gt=0, le=1)
    max_new_tokens: int = option(512, "Tokens of an answer.", ge=1)
    base_url: str | None = option(None, "OpenAI-compatible server (http://host:port/v1); null: in this process.")
    api_key_env: str = option(
        "OPENAI_API_KEY", "Environment variable with the server's key.", advanced=True, affects_output=False
    )
    concurrency: int = option(16, "Requests to the server at a time.", ge=1, affects_output=False)
    timeout: float = option(
        600.0, "Seconds until a request to the server is given up.", gt=0, advanced=True, affects_output=False
    )
    max_retries: int = option(
        5, "Times a failed request to the server is repeated.", ge=0, advanced=True, affects_output=False
    )
    extra_body: dict[str, Any] | None = option(None, "Further fields of each request to the server.", advanced=True)
    max_tokens_per_batch: int = option(
        32768, "Tokens in a batch of a model in this process.", ge=1, affects_output=False
    )

    def __post_init__(self) -> None:
        if self.extra_body and self.base_url is None:
            raise_input_error("extra_body", "nothing without base_url", self.extra_body, "It is for servers.")
        if self.samples > 1 and not self.temperature:
            raise_input_error("samples", "1 at temperature 0", self.samples, "All samples would be the same.")


@configuration
class RewardModelJudgeConfig:
    """Reward models as an ensemble; rewards are standardised per member and mapped to the scale by a sigmoid."""

    module: ClassVar[str] = "rmkit.judges.reward_model"
    kind: Literal["reward_model"] = option("reward_model", "Kind of judge.")
    models: dict[str, str] = option(help="Reward models, name -> folder or hub name.", min_length=1)
    score_min: float = option(0.0, "Lowest score of the scale.")
    score_max: float = option(5.0, "Highest score of the scale.")
    std_penalty: float = option(
        1.0, "Standard deviations over members that the conservative score subtracts from the mean.", ge=0
    )
    max_length: int = option(1024, "Tokens of a prompt with its response; prompts are cut from the left.", ge=1)
    max_tokens_per_batch: int = option(16384, "Tokens in a batch.", ge=1, affects_output=False)

    def __post_init__(self) -> None:
        if not self.score_min < self.score_max:
            raise_input_error("score_max", f"above score_min, {self.score_min}", self.score_max, "0 and 5 are usual.")


@configuration
class GoldJudgeConfig:
    """The gold reward of the synthetic data, on rows that have its column `request`."""

    module: ClassVar[str] = "rmkit.judges.gold"
    kind: Literal["gold"] = option("gold", "Kind of judge.")


JUDGES: dict[str, type] = {"llm": LLMJudgeConfig, "reward_model": RewardModelJudgeConfig, "gold": GoldJudgeConfig}


def parse_judge(judge: Mapping[str, Any]) -> Any:
    """The checked settings of a judge that is given as {kind: ..., settings}."""
    kind = judge.get("kind")
    if kind not in JUDGES:
        raise_input_error("judge.kind", f"one of {', '.join(JUDGES)}", kind or Verbatim("none"), "Name the judge.")
    return build_config(JUDGES[kind], judge, "judge.")


def resolve_judge(judge: Mapping[str, Any]) -> dict[str, Any]:
    """The same judge with all its settings, checked."""
    return as_dict(parse_judge(judge))


def load_judge(judge: Mapping[str, Any]) -> tuple["JudgeSpec", Callable[..., "Judge"]]:
    """What the judge's answers look like, and the function that builds it.

    The function takes `seed`, `folder` (for its files), `trust_remote_code` and `reference` (tasks of one response,
    on which a reward model's scale is fitted).
    """
    settings = parse_judge(judge)
    module = importlib.import_module(settings.module)
    return module.judge_spec(settings), partial(module.build_judge, settings)
