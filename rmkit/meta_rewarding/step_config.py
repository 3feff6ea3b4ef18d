"""Configurations of the steps that only the loop has: EFT data, meta-judging, pairs and the reward models."""

from typing import Any, Literal

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, section
from rmkit.judges.config import LLMJudgeConfig

LLM, REWARD_MODEL = "llm", "reward_model"  # the judges
MATCH_LENGTH = "match_length"


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
