"""The configuration of `rmkit judge`, and the judge that it names."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.stage import read_json, write_json
from rmkit.data.token_batches import MAX_TOKENS
from rmkit.generation import Generator, Sampling, TransformersGenerator, choose_generator
from rmkit.judges.base import Judge, JudgeTask, Scale
from rmkit.judges.language_model import JudgeSampler, LanguageModelJudge, Way
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.judges.reward_model import ModelScorer, RewardModelJudge, ScoreScale, fit_scale
from rmkit.judges.sanitize import special_tokens

PENDING = "pending.jsonl"  # answers on their way
REFERENCE = 128  # rows on whose responses a reward model's scale is measured
# What says how fast the answers come and not what they are: to change it is no reason to ask again.
PACE = ("at_once", "allow_failures", "concurrency", "api_key_env", "timeout", "max_retries", "max_tokens_per_batch")


@dataclass
class LLMJudgeConfig:
    """A language model that is asked `question`, `samples` times (in each order, for a comparison).

    question: rubric (0 to 5), hundred (0 to 100), gold (0 to 13, the gold world's own, for its own language model), or
    comparison (of two responses, in both orders).
    way: the score as written, or the one expected over the probabilities of the tokens in its place.
    model_name_or_path: a folder or hub name, run in this process; with `base_url` (".../v1"), a model's name on an
    OpenAI-compatible server, whose key is in the environment under `api_key_env`.
    concurrency: requests to a server at a time. timeout: seconds for each. max_retries: how often one that fails is repeated.
    extra_body: further fields of each request that the server needs, such as those named at `ServerGenerator`.
    max_tokens_per_batch: tokens whose states are held at once, in this process.
    Sampling is as in Meta-Rewarding (temperature 0.8, top_p 0.95).
    """

    model_name_or_path: str
    question: Literal["rubric", "hundred", "gold", "comparison"] = "rubric"
    way: Way = "written"
    samples: int = 1
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 600.0
    max_retries: int = 5
    extra_body: dict[str, Any] | None = None
    max_tokens_per_batch: int = 32768
    temperature: float = 0.8
    top_p: float = 0.95
    max_new_tokens: int = 512

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 1), ("max_retries", 0), ("max_tokens_per_batch", 1)):
            if getattr(self, name) < least:
                raise_input_error(name, f"at least {least}", getattr(self, name), f"Raise {name}.")
        if not self.timeout > 0:
            raise_input_error("timeout", "seconds, above 0", self.timeout, "600 is usual.")
        if self.extra_body and self.base_url is None:
            raise_input_error("extra_body", "base_url beside it", Verbatim("none"), "It is for servers.")
        if self.samples < 1 or (self.samples > 1 and not self.temperature):
            raise_input_error(
                "samples", "at least 1, and 1 at temperature 0, where all are the same", self.samples, "Change it."
            )
        Sampling(temperature=self.temperature, top_p=self.top_p, max_new_tokens=self.max_new_tokens)


@dataclass
class RewardModelJudgeConfig:
    """Reward models (name -> folder or hub name), each a member of the ensemble that judges.

    Scores run from `low` to `high`: each member's rewards are centred and scaled by those of some of the responses,
    then put through a sigmoid. `k` standard deviations of the members are taken off for the conservative score.
    """

    models: dict[str, str]
    low: float = 0.0
    high: float = 5.0
    k: float = 1.0
    max_length: int = 1024
    max_tokens_per_batch: int = MAX_TOKENS

    def __post_init__(self) -> None:
        if not self.models:
            raise_input_error(
                "models", "at least one name with a model", Verbatim("none"), "Write --reward_model.models.NAME FOLDER."
            )
        if not self.low < self.high:
            raise_input_error("low and high", "a lower and a higher end", (self.low, self.high), "0 and 5 are usual.")
        if self.k < 0:
            raise_input_error("k", "a number that is not negative", self.k, "1 takes away one standard deviation.")
        if self.max_tokens_per_batch < 1:
            raise_input_error("max_tokens_per_batch", "at least 1", self.max_tokens_per_batch, f"{MAX_TOKENS} is usual.")


@dataclass
class JudgeConfig:
    """A judge, either `language_model` or `reward_model`, on the pairs of `split` in the folder `data`, or on samples.

    Samples have a `prompt` and `responses`, without labels, in any file or dataset that `rmkit score` reads.
    Every answer is kept as it comes, a killed run goes on. Answers that failed (a server that was down) end the run
    unless `allow_failures`; the same command asks for them again. `at_once`: rows that are put to the judge together.
    The bootstrap that gives the intervals draws prompts, `n_bootstrap` times.
    """

    data: str
    output_dir: str
    split: str = "test"
    language_model: LLMJudgeConfig | None = None
    reward_model: RewardModelJudgeConfig | None = None
    at_once: int = 64
    allow_failures: bool = False
    n_bootstrap: int = 1000
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if (self.language_model is None) == (self.reward_model is None):
            raise_input_error(
                "language_model and reward_model",
                "one of them",
                Verbatim("both" if self.reward_model else "neither"),
                "Name the judge.",
            )
        for name in ("at_once", "n_bootstrap"):
            if getattr(self, name) < 1:
                raise_input_error(name, "at least 1", getattr(self, name), f"Raise {name}.")

    @property
    def responses(self) -> int:
        """How many responses a task has."""
        return 1 if self.language_model is None else JUDGE_PROMPTS[self.language_model.question].responses

    @property
    def answers(self) -> int:
        """How many answers a task gets."""
        if self.language_model is None:
            return len(self.reward_models.models)
        return self.language_model.samples * self.responses

    @property
    def reward_models(self) -> RewardModelJudgeConfig:
        """The reward models, where they are the judge."""
        assert self.reward_model is not None
        return self.reward_model

    @property
    def scale(self) -> Scale:
        """Of the scores."""
        if self.language_model is None:
            return Scale(self.reward_models.low, self.reward_models.high)
        return JUDGE_PROMPTS[self.language_model.question].scale


def list_settings(config: Any) -> dict[str, Any]:
    """The settings of a stage that asks a judge, without those that do not say what the answers are."""
    settings = as_dict(config)
    model = settings["language_model"] or {}
    for section in (settings, model):
        for name in PACE:
            section.pop(name, None)
    if not model.get("extra_body"):
        model.pop("extra_body", None)  # or what was judged before there was a choice would be judged again
    return settings


def build_judge(config: JudgeConfig, reference: list[JudgeTask], folder: Path) -> Judge:
    """The judge; answers on their way are kept in `folder`, and the scale that rewards have on the reference tasks."""
    model = config.language_model
    if model is None:
        scorer = ModelScorer(
            config.reward_models.models.values(), max_length=config.reward_models.max_length,
            max_tokens_per_batch=config.reward_models.max_tokens_per_batch, trust_remote_code=config.trust_remote_code,
        )
        known = read_json(folder / "scale.json")
        if known is None:
            scale = fit_scale(scorer.score(reference).rewards, config.scale)
            write_json(folder / "scale.json", {"key": "scale", **dataclasses.asdict(scale)})
        else:
            scale = ScoreScale(config.scale, tuple(known["centre"]), tuple(known["spread"]))
        return RewardModelJudge(scorer, scale)
    generator = load_judge_generator(model, config.trust_remote_code)
    tokens = special_tokens(generator.tokenizer) if isinstance(generator, TransformersGenerator) else ()
    sampling = Sampling(temperature=model.temperature, top_p=model.top_p, max_new_tokens=model.max_new_tokens)
    asking = JudgeSampler(generator, sampling, model.samples, config.seed, model.way, tokens, folder / PENDING)
    return LanguageModelJudge(asking, JUDGE_PROMPTS[model.question])


def load_judge_generator(model: LLMJudgeConfig, trust_remote_code: bool) -> Generator:
    """The language model, on its server or in this process."""
    return choose_generator(
        model.model_name_or_path, base_url=model.base_url, api_key_env=model.api_key_env,
        concurrency=model.concurrency, timeout=model.timeout, max_retries=model.max_retries, extra_body=model.extra_body,
        max_tokens_per_batch=model.max_tokens_per_batch, trust_remote_code=trust_remote_code,
    )


def sample_calibration_rows(rows: int, seed: int) -> list[int]:
    """Some rows, spread over all of them."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:REFERENCE]).tolist()
