"""Configuration of `rmkit meta-reward` and of the steps that only the loop has."""

from typing import Any, Literal

from rmkit.commands.synthetic import SYNTHETIC
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, section
from rmkit.judges.config import LLMJudgeConfig

LLM, REWARD_MODEL = "llm", "reward_model"  # the judges
MATCH_LENGTH = "match_length"


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
class EftConfig:
    """Evaluation fine-tuning (EFT): train the judge on its own judgments that agree with human ranks."""

    data: str = option(help="Rows of `prompt`, `responses` and `ranks` (0 the best, null for none).")
    judgments: str = option(help="Folder of `rmkit judge` on `data`.")
    output_dir: str = option(help="Output folder.")
    judge_prompt: str = option(help="Prompt that the judgments answer.")
    tokenizer: str | None = option(None, "The judge's tokenizer, to escape its special tokens; null behind a server.")
    instructions: str | None = option(None, "Rows of `rmkit sft` to train on as well.")
    validation_fraction: float = option(0.25, "Fraction of prompts for validation.", ge=0, lt=1)
    allow_ties: bool = option(False, "Keep judgments that score two differently ranked responses equally.")
    max_score_ratio: float = option(
        1.0, "Each score is kept at most this many times as often as the median score.", ge=1
    )
    seed: int = option(0, "Seed of the split and of the balancing.")
    trust_remote_code: bool = option(False, "Run code that comes with the tokenizer.")


@configuration
class MetaJudgingConfig(LLMJudgeConfig):
    """Compare the judgments of each prompt's most disputed response, by a language model, in both orders."""

    data: str = option(help="Folder of `rmkit judge` with the judgments.")
    output_dir: str = option(help="Output folder.")
    max_judgments: int | None = option(
        None, "Judgments of a response to compare; N of them take N (N - 1) answers. null: all.", ge=2
    )
    batch_size: int = option(64, "Prompts that are judged together.", ge=1, affects_output=False)
    seed: int = option(0, "Seed of the sampling.")
    trust_remote_code: bool = option(False, "Run code that comes with the model.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt == "pairwise":
            raise_input_error("prompt", "one that scores single responses", self.prompt, "Use additive_5.")


@configuration
class PairConfig:
    """Build DPO pairs of responses (actor pairs) and, from meta-judgments, of judgments (judge pairs)."""

    output_dir: str = option(help="Output folder.")
    llm_judgments: str | None = option(None, "Folder of `rmkit judge` with a language model's judgments.")
    reward_judgments: str | None = option(None, "Folder of `rmkit judge` with reward models' judgments.")
    meta_judgments: str | None = option(None, "Folder of meta-judgments, for judge pairs.")
    rho: float | Literal["match_length"] = option(
        0.0, "Length control: 0 picks by score alone, larger values prefer shorter chosen responses; `match_length` "
        "takes the value of rho_grid whose chosen responses are as long as the responses in length_reference."
    )
    rho_grid: list[float] = option(
        default_factory=lambda: [0.0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.48], help="Values to try for `match_length`."
    )
    length_reference: str | None = option(None, "Folder of `rmkit judge` whose mean response length is the target.")
    min_judgments: int = option(1, "Judgments that a response needs to have a score.", ge=1)
    weights: dict[str, float] = option(
        default_factory=lambda: {LLM: 1.0, REWARD_MODEL: 1.0}, help="Weights of the two judges' scores."
    )
    std_penalty: float = option(0.0, "Standard deviations over reward models to subtract from their mean score.")
    max_response: int | None = option(None, "Characters of a chosen response; longer ones give no pair.")
    max_judgment: int | None = option(None, "Characters of a chosen judgment; longer ones give no pair.")
    allow_equal_scores: bool = option(True, "Whether the two judgments of a pair may give the same score.")
    ridge: float = option(0.01, "Ridge penalty of the judgments' Bradley-Terry ratings.", advanced=True)
    weak_pairs: Literal["keep", "drop", "soft"] = option(
        "keep", "What to do with actor pairs of a strength below weak_threshold; `soft` sets target sigmoid(strength)."
    )
    weak_threshold: float = option(0.0, "Strength below which a pair is weak.")
    strength_scale: float = option(1.0, "Log-odds per reward unit (reward models) or per score (language model).", gt=0)
    margin_scale: float = option(0.0, "Margin of an actor pair per unit of strength.", ge=0)

    def __post_init__(self) -> None:
        if self.llm_judgments is None and self.reward_judgments is None:
            raise_input_error(
                "llm_judgments and reward_judgments", "at least one", Verbatim("neither"), "Name a folder of judgments."
            )
        if (self.rho == MATCH_LENGTH) != (self.length_reference is not None):
            raise_input_error(
                "rho and length_reference", "both, rho being match_length, or a number and null",
                (self.rho, self.length_reference), "Set both or neither.",
            )
        numbers = [*self.rho_grid, *([] if isinstance(self.rho, str) else [self.rho])]
        if not all(0 <= rho < 0.5 for rho in numbers):
            raise_input_error("rho and rho_grid", "numbers in [0, 0.5)", numbers, "0 chooses by score alone.")


@configuration
class RewardEnsembleConfig:
    """Reward models that judge: trained on labelled pairs and, by MetaRM, on the current policy's samples."""

    data: str | None = option(None, "Folder of `rmkit read` with labelled pairs; null: the synthetic pairs.")
    model_name_or_path: str | None = option(None, "Base model of the reward models; null: the first policy.")
    members: int = option(3, "Reward models in the ensemble.", ge=1)
    score_min: float = option(0.0, "Lowest score of the scale that rewards are mapped to.")
    score_max: float = option(5.0, "Highest score of the scale that rewards are mapped to.")
    add_policy_pairs: bool = option(
        True, "Add pairs of the policy's responses, labelled by the ensemble, to the next iterations' training pairs."
    )
    max_length: int | None = option(None, "Tokens of a prompt with its response; null: that of the loop.", ge=1)
    vote: dict[str, Any] | None = section(
        "rmkit.commands.vote:VoteConfig", "The vote on the training pairs; null: they are not repaired.",
        fixed=("data", "model_name_or_path", "output_dir"),
    )
    repair: dict[str, Any] = section(
        "rmkit.commands.repair:RepairConfig", "The label repair after the vote.", fixed=("votes", "output_dir")
    )
    train: dict[str, Any] = section(
        "rmkit.commands.train:TrainConfig", "The training of each reward model.",
        fixed=("data", "model_name_or_path", "output_dir", "meta_data"),
    )
    metarm: dict[str, Any] | None = section(
        "rmkit.commands.iterate:MetaRMSettings", "MetaRM on the policy's samples; null: ordinary training.",
        fixed=("meta_data",),
    )
    continue_training: dict[str, Any] | None = section(
        "rmkit.commands.train:TrainConfig", "If set, members continue from the last iteration's, with these changes of "
        "`train`.", fixed=("data", "model_name_or_path", "output_dir", "meta_data"), optional=True,
    )

    def __post_init__(self) -> None:
        if self.add_policy_pairs and self.members < 3:
            raise_input_error(
                "members", "at least 3 with add_policy_pairs, where two members are compared by the others",
                self.members, "Raise members, or set add_policy_pairs to false.",
            )
        if not self.score_min < self.score_max:
            raise_input_error("score_max", f"above score_min, {self.score_min}", self.score_max, "0 and 5 are usual.")
        if self.vote is None and self.repair:
            raise_input_error("repair", "nothing without a vote", self.repair, "Remove it, or set vote to {}.")


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
        "rmkit.meta_rewarding.config:EftConfig", "Evaluation fine-tuning before the loop; `eft.data` turns it on.",
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
        "rmkit.meta_rewarding.config:MetaJudgingConfig", "The policy as meta-judge.",
        fixed=("kind", "model_name_or_path", "prompt", "data", "output_dir"),
    )
    pairs: dict[str, Any] = section(
        "rmkit.meta_rewarding.config:PairConfig", "The pairs for DPO.",
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
