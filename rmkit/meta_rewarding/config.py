"""The configuration of a run of the loop."""

from dataclasses import dataclass, field
from typing import Any, Literal

from rmkit.commands.run import GOLD
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.meta_rewarding.drift import DriftRules
from rmkit.meta_rewarding.pairs import REWARD


@dataclass
class Server:
    """An OpenAI-compatible server by which every model of the run generates, one after the other.

    `command` starts it for the model "{model}", a folder or hub name by which it also has to answer, such as
    "vllm serve {model} --port 8000"; it is ended before training, which may need the same accelerator. Without it, a
    server at `base_url` has to serve whichever model it is asked for. `startup_timeout`: seconds until it answers.
    """

    base_url: str
    command: str | None = None
    startup_timeout: float = 1800.0
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 64


@dataclass
class MetaRewardConfig:
    """The meta-rewarding loop from `model_name_or_path` on; each step's folder lies in `output_dir`.

    An iteration: `prompts_per_iteration` of `prompts`, none twice before all have come; the policy's responses to
    them (`sample`); judgments of these by `judge`: language, the policy itself (`language`, `question`), reward, an
    ensemble of reward models that follows the policy (`reward`), or both; pairs of responses (`pairs`), and in the
    first `judge_pairs` iterations pairs of judgments, by the policy as meta-judge (`meta`), of a judge that writes
    scores; then `dpo`, from the policy with the policy as it is for the reference. `rho`, `max_response` and
    `max_judgment` (characters, null for none) hold a value for each iteration, the last one for all that follow;
    `rho` may be "hold": responses are kept as long as those of the first iteration. `fixed_pairs` takes the place of
    all that comes before `dpo`. Without `judge_pairs` this is Self-Rewarding; with 0 iterations, the model as it is.

    `prompts`, `model_name_or_path` and, with its prompts, `evaluation_prompts` may be "gold", the gold world of
    `school`. With `sft`, the model is fine-tuned first, on its `data`; with `eft` also on its own judgments of ranked
    responses, `eft.data`, as far as they agree with the ranks (`TeachConfig`). After each iteration the policy answers
    `evaluation_prompts` (or none of it: null), as `evaluation` says, and its judge is measured; in the end `compare`
    puts all policies' answers to a judge of its own, against the first one's. `drift` has the limits that warn or stop.
    `sample`, `language`, `meta`, `dpo`, `sft`, `reward` and `compare` hold keys of the commands; what this level sets
    is not theirs to set.
    """

    output_dir: str
    model_name_or_path: str = GOLD
    prompts: str = GOLD
    evaluation_prompts: str | None = GOLD
    prompts_per_iteration: int = 5000
    iterations: int = 4
    judge: Literal["language", "reward", "both"] = "language"
    question: str = "rubric"
    judge_pairs: int = 2
    rho: list[float | Literal["hold"]] = field(default_factory=lambda: [0.0, 0.32, 0.32, 0.4])
    max_response: list[int | None] = field(default_factory=lambda: [2500, None])
    max_judgment: list[int | None] = field(default_factory=lambda: [1100, 1000])
    fixed_pairs: str | None = None
    server: Server | None = None
    max_length: int = 2048
    seed: int = 0
    trust_remote_code: bool = False
    school: dict[str, Any] = field(default_factory=dict)
    eft: dict[str, Any] | None = None
    sft: dict[str, Any] | None = None
    sample: dict[str, Any] = field(default_factory=dict)
    language: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    reward: dict[str, Any] = field(default_factory=dict)
    pairs: dict[str, Any] = field(default_factory=dict)
    dpo: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    compare: dict[str, Any] | None = None
    drift: DriftRules = field(default_factory=DriftRules)

    def __post_init__(self) -> None:
        for name, least in (("iterations", 0), ("judge_pairs", 0), ("prompts_per_iteration", 1)):
            if getattr(self, name) < least:
                raise_input_error(name, f"at least {least}", getattr(self, name), f"Raise {name}.")
        for name in ("rho", "max_response", "max_judgment"):
            if not getattr(self, name):
                raise_input_error(name, "a value for each iteration", Verbatim("none"), "One value is for all of them.")
        if self.evaluation_prompts == GOLD != self.prompts:
            raise_input_error(
                "evaluation_prompts",
                "prompts to measure on, or null, with prompts of your own",
                GOLD,
                "Name rows with a prompt that are not among them.",
            )
        if self.compare is not None and (self.evaluation_prompts is None or not self.iterations):
            raise_input_error(
                "compare", "evaluation_prompts and iterations with it", Verbatim("none"), "There is nothing to compare."
            )
        if self.judge == REWARD and self.judge_pairs:
            raise_input_error(
                "judge_pairs",
                "0 with the judge reward, which writes nothing to compare",
                self.judge_pairs,
                "Set it to 0, or judge to both.",
            )
