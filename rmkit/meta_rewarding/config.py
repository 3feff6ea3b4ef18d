"""Configuration of `rmkit meta-reward`."""

from typing import Any, Literal

from rmkit.commands.synthetic import SYNTHETIC
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, section
from rmkit.meta_rewarding.step_config import LLM, REWARD_MODEL, RewardEnsembleConfig


@configuration
class Server:
    """An OpenAI-compatible server that generates for every model of the run, one after the other."""

    base_url: str = option(help="Its address, ending in /v1.")
    command: str | None = option(
        None, "Starts the server for a model until training begins, such as `vllm serve {model} --port 8000`; null: it "
        "already runs, and serves every model that is asked for."
    )
    startup_timeout: float = option(1800.0, "Seconds until a started server must answer.", gt=0, affects_output=False)
    api_key_env: str = option("OPENAI_API_KEY", "Environment variable with the API key.", affects_output=False)
    concurrency: int = option(64, "Requests at a time.", ge=1, affects_output=False)


@configuration
class Threshold:
    """A limit of the drift monitor."""

    warn: float | None = option(help="Warn above this value; null: never.")
    stop: float | None = option(help="Stop the loop above this value; null: never.")

    def __post_init__(self) -> None:
        if self.warn is not None and self.stop is not None and self.stop < self.warn:
            raise_input_error("stop", f"at least warn, {self.warn}", self.stop, "Raise stop or lower warn.")


def threshold(warn: float | None, stop: float | None, help: str) -> Any:
    """A key of `DriftRules` with its default."""
    return option(default_factory=lambda: Threshold(warn=warn, stop=stop), help=help)


@configuration
class DriftRules:
    """Limits of the drift monitor. Published values: arXiv 2407.19594, Tables 1 to 5 and Figure 5."""

    score: Threshold = threshold(
        0.1, None, "Rise of the mean score since iteration 1, as a fraction of the scale; 0.12 in the paper."
    )
    top: Threshold = threshold(0.5, 0.9, "Fraction of scores in the top twentieth of the scale.")
    position: Threshold = threshold(
        0.15, 0.35, "Distance from 1/2 of the fraction of meta-judge verdicts for the judgment shown first; 0.06, then "
        "0.18 in the paper."
    )
    higher: Threshold = threshold(
        0.95, None, "Fraction of meta-judge verdicts for the judgment of higher score; 0.63, then 0.98 in the paper."
    )
    length: Threshold = threshold(
        0.1, 0.5, "Relative change of the mean length since iteration 1; 0.42 and 0.64 an iteration in Self-Rewarding."
    )
    length_step: Threshold = threshold(0.1, 0.4, "Relative change of the mean length since the last iteration.")
    distinct: Threshold = threshold(0.2, 0.5, "Fall of the fraction of distinct responses since iteration 1.")
    kl: Threshold = threshold(3.0, None, "KL from the first policy divided by that of the last iteration.")
    agreement: Threshold = threshold(0.05, 0.15, "Fall of the agreement with held-out labels since iteration 1.")
    agreement_step: Threshold = threshold(
        0.03, None, "Fall of the agreement with held-out labels since the last iteration; 0.033 in the paper."
    )


@configuration
class MetaRewardConfig:
    """The meta-rewarding loop: the policy is trained by DPO on its own responses, which it judges itself.

    Each step has a folder in `output_dir`. With `judge_pairs: 0` this is Self-Rewarding; with 0 iterations, the model
    as it is. `rho`, `max_response` and `max_judgment` have a value per iteration; the last one also holds for the rest.
    """

    output_dir: str = option(help="Output folder.")
    model_name_or_path: str = option(SYNTHETIC, "The first policy: a folder, a hub name, or `synthetic`.")
    prompts: str = option(SYNTHETIC, "Rows of `prompt` to train on, or `synthetic`.")
    evaluation_prompts: str | None = option(
        SYNTHETIC, "Rows of `prompt` to evaluate each policy on, `synthetic`, or null for no evaluation."
    )
    prompts_per_iteration: int = option(5000, "Prompts of an iteration; none is repeated before all are used.", ge=1)
    iterations: int = option(4, "Rounds of sampling, judging and DPO.", ge=0)
    judge: Literal["llm", "reward_model", "both"] = option(
        LLM, "Who scores the responses: the policy itself, an ensemble of reward models, or both."
    )
    judge_prompt: Literal["additive_5", "scale_100", "synthetic", "pairwise"] = option(
        "additive_5", "The judge's prompt: scores 0 to 5, 0 to 100, of the synthetic data (0 to 13), or pairwise."
    )
    judge_pairs: int = option(2, "First iterations that also train on judge pairs; 0 is Self-Rewarding.", ge=0)
    rho: list[float | Literal["match_length"]] = option(
        default_factory=lambda: [0.0, 0.32, 0.32, 0.4], min_length=1,
        help="Length control by iteration, in [0, 0.5); `match_length` keeps responses as long as in iteration 1.",
    )
    max_response: list[int | None] = option(
        default_factory=lambda: [2500, None], min_length=1, help="Characters of a chosen response, by iteration."
    )
    max_judgment: list[int | None] = option(
        default_factory=lambda: [1100, 1000], min_length=1, help="Characters of a chosen judgment, by iteration."
    )
    offline_pairs: str | None = option(None, "Pairs for DPO in every iteration, instead of sampling and judging.")
    server: Server | None = option(None, "A server that generates; null: models generate in this process.")
    max_length: int = option(2048, "Tokens of a prompt with its response in training.", ge=1)
    seed: int = option(0, "Seed of every step.")
    trust_remote_code: bool = option(False, "Run code that comes with the models.")
    synthetic: dict[str, Any] = section(
        "rmkit.commands.synthetic:SyntheticConfig", "The synthetic data and their model.", fixed=("output_dir",)
    )
    eft: dict[str, Any] | None = section(
        "rmkit.meta_rewarding.step_config:EftConfig", "Evaluation fine-tuning before the loop; `eft.data` turns it on.",
        fixed=("judgments", "output_dir", "judge_prompt", "tokenizer", "instructions"), optional=True,
    )
    sft: dict[str, Any] | None = section(
        "rmkit.commands.sft:SftConfig", "Fine-tuning before the loop, on its `data` and on EFT data.",
        fixed=("model_name_or_path", "output_dir"), optional=True,
    )
    sample: dict[str, Any] = section(
        "rmkit.commands.sample:SampleConfig", "The policy's responses.",
        fixed=("data", "model_name_or_path", "output_dir"),
    )
    judge_llm: dict[str, Any] = section(
        "rmkit.judges.config:LLMJudgeConfig", "The policy as judge.", fixed=("kind", "model_name_or_path", "prompt")
    )
    judge_rm: RewardEnsembleConfig = option(
        default_factory=RewardEnsembleConfig, help="Reward models as judges, with `judge` reward_model or both."
    )
    meta_judge: dict[str, Any] = section(
        "rmkit.meta_rewarding.step_config:MetaJudgingConfig", "The policy as meta-judge.",
        fixed=("kind", "model_name_or_path", "prompt", "data", "output_dir"),
    )
    pairs: dict[str, Any] = section(
        "rmkit.meta_rewarding.step_config:PairConfig", "The pairs for DPO.",
        fixed=("output_dir", "llm_judgments", "reward_judgments", "meta_judgments", "rho", "length_reference",
               "max_response", "max_judgment"),
    )
    dpo: dict[str, Any] = section(
        "rmkit.commands.dpo:DpoConfig", "The DPO training.", fixed=("data", "model_name_or_path", "output_dir")
    )
    evaluation: dict[str, Any] = section(
        "rmkit.commands.sample:SampleConfig", "The policy's responses to evaluation_prompts.",
        fixed=("data", "model_name_or_path", "output_dir"),
    )
    compare: dict[str, Any] | None = section(
        "rmkit.commands.compare:CompareConfig", "Win rates of all policies against the first, by a judge of its own.",
        fixed=("policies", "output_dir"), optional=True,
    )
    drift: DriftRules = option(default_factory=DriftRules, help="The drift monitor's limits.", advanced=True)

    def __post_init__(self) -> None:
        if self.evaluation_prompts == SYNTHETIC != self.prompts:
            raise_input_error(
                "evaluation_prompts", "prompts to evaluate on, or null, with prompts of your own", SYNTHETIC,
                "Name rows of `prompt` that are not among the training prompts.",
            )
        if self.compare is not None and (self.evaluation_prompts is None or not self.iterations):
            raise_input_error(
                "compare", "evaluation_prompts and iterations with it", Verbatim("none"), "There is nothing to compare."
            )
        if self.judge == REWARD_MODEL and self.judge_pairs:
            raise_input_error(
                "judge_pairs", "0 with judge reward_model, which writes no judgments", self.judge_pairs,
                "Set it to 0, or judge to both.",
            )
