"""The plan of a run: the steps with their configurations, all built, and so checked, before the first step starts."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rmkit.commands.compare import CompareConfig
from rmkit.commands.dpo import DpoConfig, dpo
from rmkit.commands.judge import JudgeConfig, judge
from rmkit.commands.read import ReadConfig, read
from rmkit.commands.sample import SampleConfig, sample
from rmkit.commands.sft import SftConfig, sft
from rmkit.commands.synthetic import BASE_MODEL, SYNTHETIC, SyntheticConfig, synthetic
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import as_dict, build_section
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import Steps
from rmkit.data.samples import SAMPLES
from rmkit.judges.base import Scale
from rmkit.judges.config import LLMJudgeConfig
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.meta_rewarding.config import (
    LLM,
    MATCH_LENGTH,
    REWARD_MODEL,
    EftConfig,
    MetaJudgingConfig,
    MetaRewardConfig,
    PairConfig,
)
from rmkit.meta_rewarding.eft import TRAIN_FILE, write_eft_data
from rmkit.meta_rewarding.meta_judging import run_meta_judging
from rmkit.meta_rewarding.metrics import evaluate_policy
from rmkit.meta_rewarding.pairs import write_pairs
from rmkit.meta_rewarding.reward_models import plan_ensemble_judge, plan_reward_models
from rmkit.meta_rewarding.steps import measure_drift, split_prompts

# Of `rmkit synthetic`: enough demonstrations of judging for a language model that is its own judge.
SYNTHETIC_SIZES = {"prompts": 2000, "evaluation_prompts": 200, "demonstrations": 6000, "min_quality": 0.0,
                   "judgments": 12000, "verdicts": 6000}
SAMPLING = {"temperature": 0.8, "top_p": 0.95}  # the paper's, of responses, judgments and verdicts
Value = TypeVar("Value")


class LoopPlan(NamedTuple):
    """The steps before the loop, of each iteration, and of the evaluation of each policy, the first policy's first."""

    setup: Steps
    iterations: list[Steps]
    evaluations: list[Steps]
    compare: CompareConfig | None


def plan_loop(config: MetaRewardConfig) -> LoopPlan:
    """Every step's configuration, with the folders in between. Raises `InputError` for a setting that does not fit."""
    return Planner(config).plan()


class Planner:
    """Builds the steps of a run. `policies`: the model that each iteration starts from, and the last one's."""

    def __init__(self, config: MetaRewardConfig) -> None:
        self.config = config
        self.folder = Path(config.output_dir)
        self.shared = {"seed": config.seed, "max_length": config.max_length,
                       "trust_remote_code": config.trust_remote_code}
        self.server: dict[str, Any] = {}
        if config.server is not None:
            self.server = {name: getattr(config.server, name) for name in ("base_url", "api_key_env", "concurrency")}
        self.llm, self.reward_models = (
            config.offline_pairs is None and config.judge in (name, "both") for name in (LLM, REWARD_MODEL)
        )
        self.prompts, self.evaluation_prompts = config.prompts, config.evaluation_prompts
        self.labelled = config.judge_rm.data or str(self.folder / "labelled")
        self.setup: Steps = {}
        model = self.plan_synthetic()
        model = self.plan_fine_tuning(model)
        if config.iterations and config.offline_pairs is None:
            self.setup["prompts"] = partial(
                split_prompts, self.prompts, self.folder / "prompts", per_iteration=config.prompts_per_iteration,
                iterations=config.iterations, seed=config.seed,
            )
        self.policies = [model, *(str(self.iteration(number) / "model") for number in range(1, config.iterations + 1))]

    def iteration(self, number: int) -> Path:
        """The folder of an iteration, from 1."""
        return self.folder / f"iteration-{number}"

    def plan(self) -> LoopPlan:
        """All steps."""
        iterations = [self.plan_iteration(number) for number in range(1, self.config.iterations + 1)]
        evaluations: list[Steps] = []
        if self.evaluation_prompts is not None:
            evaluations = [self.plan_evaluation(number) for number in range(len(self.policies))]
        compare = None
        if self.config.compare is not None:
            responses = {f"policy-{number}": steps["responses"].args[0].output_dir
                         for number, steps in enumerate(evaluations)}
            compare = build_section(CompareConfig, self.config.compare, self.shared, "compare", policies=responses,
                                    output_dir=str(self.folder / "compare"))
        return LoopPlan(self.setup, iterations, evaluations, compare)

    def plan_synthetic(self) -> str:
        """The synthetic data and labelled pairs, where they are used; returns the first model."""
        config, seed = self.config, {"seed": self.config.seed}
        needs_pairs = self.reward_models and config.judge_rm.data is None
        model = config.model_name_or_path
        if needs_pairs and SYNTHETIC not in (config.prompts, model):
            raise_input_error(
                "judge_rm.data", "labelled pairs to train reward models on", Verbatim("none"),
                "Name a folder of `rmkit read`.",
            )
        if not needs_pairs and SYNTHETIC not in (config.prompts, model, config.evaluation_prompts):
            return model
        folder = self.folder / SYNTHETIC
        sizes = {**SYNTHETIC_SIZES, **config.synthetic}
        self.setup["synthetic"] = partial(
            synthetic, build_section(SyntheticConfig, sizes, seed, "synthetic", output_dir=str(folder))
        )
        if config.prompts == SYNTHETIC:
            self.prompts = str(folder / "prompts.jsonl")
        if config.evaluation_prompts == SYNTHETIC:
            self.evaluation_prompts = str(folder / "evaluation.jsonl")
        if needs_pairs:
            files = {"data": "train", "validation": "validation", "test": "test"}
            self.setup["read"] = partial(read, build_section(
                ReadConfig, {}, seed, "read", output_dir=self.labelled,
                **{key: str(folder / f"{split}.jsonl") for key, split in files.items()},
            ))
        return str(folder / BASE_MODEL) if model == SYNTHETIC else model

    def plan_fine_tuning(self, model: str) -> str:
        """EFT data and supervised fine-tuning before the loop; returns the model that comes out."""
        config, settings = self.config, dict(self.config.sft or {})
        if config.eft is not None:
            if "data" not in config.eft:
                raise_input_error("eft.data", "ranked responses", Verbatim("none"), "Name them, or leave eft out.")
            folder = self.folder / "eft"
            judgments = self.plan_judge(model, str(config.eft["data"]), folder / "judgments", self.shared)
            self.setup["judge_llm"] = partial(judge, judgments)
            self.setup["eft"] = partial(write_eft_data, build_section(
                EftConfig, config.eft, self.shared, "eft", judgments=judgments.output_dir,
                output_dir=str(folder / "data"), judge_prompt=config.judge_prompt,
                tokenizer=None if config.server else model, instructions=settings.pop("data", None),
            ))
            settings["data"] = str(folder / "data" / TRAIN_FILE)
        elif config.sft is None:
            return model
        self.setup["sft"] = partial(sft, build_section(
            SftConfig, settings, self.shared, "sft", model_name_or_path=model, output_dir=str(self.folder / "sft")
        ))
        return str(self.folder / "sft")

    def plan_iteration(self, number: int) -> Steps:
        """Sampling, judging, pairs, and the DPO training from the policy of the iteration before."""
        config, folder, model = self.config, self.iteration(number), self.policies[number - 1]
        shared = {**self.shared, "seed": derive_seed(config.seed, "iteration", number)}
        steps: Steps = {}
        if config.offline_pairs is None:
            steps = self.plan_pairs(number, folder, model, shared)
        settings = {"learning_rate": 5e-6, "num_train_epochs": 10.0, **config.dpo}
        steps["dpo"] = partial(dpo, build_section(
            DpoConfig, settings, shared, "dpo", data=config.offline_pairs or str(folder / "pairs"),
            model_name_or_path=model, output_dir=str(folder / "model"),
        ))
        return steps

    def plan_pairs(self, number: int, folder: Path, model: str, shared: dict[str, Any]) -> Steps:
        """The steps of an iteration that make its pairs."""
        config = self.config
        samples, judgments = folder / "samples", folder / "judgments"
        rewards, meta_judgments = folder / "rewards", folder / "meta_judgments"
        steps: Steps = {"sample": partial(sample, build_section(
            SampleConfig, {"samples": 7, **SAMPLING, **config.sample}, shared, "sample", **self.server,
            data=str(self.folder / "prompts" / f"iteration-{number}.jsonl"), model_name_or_path=model,
            output_dir=str(samples),
        ))}
        inputs: dict[str, Any] = {}
        if self.llm:
            steps["judge_llm"] = partial(judge, self.plan_judge(model, str(samples / SAMPLES), judgments, shared))
            inputs["llm_judgments"] = str(judgments)
        if number <= config.judge_pairs:
            steps["meta_judge"] = partial(run_meta_judging, build_section(
                MetaJudgingConfig, {**SAMPLING, **config.meta_judge}, shared, "meta_judge", **self.server,
                model_name_or_path=model, prompt=config.judge_prompt, data=str(judgments),
                output_dir=str(meta_judgments),
            ))
            inputs["meta_judgments"] = str(meta_judgments)
        if self.reward_models:
            steps |= plan_reward_models(
                config.judge_rm, data=self.labelled, model=config.judge_rm.model_name_or_path or self.policies[0],
                samples=str(samples / SAMPLES), output_dir=folder, shared=self.reward_model_settings(),
                previous=[self.iteration(past) for past in range(1, number)],
            )
            inputs["reward_judgments"] = str(rewards)
        rho = value_for_iteration(config.rho, number)
        first = str(self.iteration(1) / ("judgments" if self.llm else "rewards"))
        steps["pairs"] = partial(write_pairs, build_section(
            PairConfig, config.pairs, {}, "pairs", output_dir=str(folder / "pairs"), **inputs, rho=rho,
            length_reference=first if rho == MATCH_LENGTH else None,
            max_response=value_for_iteration(config.max_response, number),
            max_judgment=value_for_iteration(config.max_judgment, number),
        ))
        steps["drift"] = partial(
            measure_drift, judgments if self.llm else rewards, inputs.get("meta_judgments"), folder / "drift",
            scale=JUDGE_PROMPTS[config.judge_prompt].scale if self.llm
            else Scale(config.judge_rm.score_min, config.judge_rm.score_max),
        )
        return steps

    def plan_evaluation(self, number: int) -> Steps:
        """How policy `number` is measured: its responses, and its judges' scores of the first policy's responses."""
        config, policy = self.config, self.policies[number]
        folder, first = (self.folder / "evaluation" / f"policy-{policy}" for policy in (number, 0))
        shared = {**self.shared, "seed": derive_seed(config.seed, "evaluation")}
        settings = {"samples": 4, "prompts": None, "temperature": 1.0, "top_p": 1.0, **config.evaluation}
        if "max_new_tokens" in config.sample:
            settings = {"max_new_tokens": config.sample["max_new_tokens"], **settings}
        steps: Steps = {"responses": partial(sample, build_section(
            SampleConfig, settings, shared, "evaluation", **self.server, data=self.evaluation_prompts,
            model_name_or_path=policy, output_dir=str(folder / "responses"),
        ))}
        samples, judgments = str(first / "responses" / SAMPLES), {}
        if self.llm:
            judgments[LLM] = str(folder / "judgments")
            steps["judge_llm"] = partial(judge, self.plan_judge(policy, samples, folder / "judgments", shared))
        if self.reward_models and number:
            judgments[REWARD_MODEL] = str(folder / "rewards")
            steps["judge_rm"] = partial(judge, plan_ensemble_judge(
                config.judge_rm, self.iteration(number), samples, folder / "rewards", self.reward_model_settings()
            ))
        steps["metrics"] = partial(
            evaluate_policy, str(folder / "responses"), str(first / "responses"), str(folder / "metrics"),
            policy=policy, reference=self.policies[0], judgments=judgments, **self.shared,
        )
        return steps

    def plan_judge(self, model: str, samples: str, folder: Path, shared: dict[str, Any]) -> JudgeConfig:
        """The judgments of samples by the language model `model`."""
        settings = {**SAMPLING, "samples": 11, **self.config.judge_llm}
        llm = build_section(LLMJudgeConfig, settings, {}, "judge_llm", model_name_or_path=model,
                            prompt=self.config.judge_prompt, **self.server)
        return build_section(JudgeConfig, {"n_bootstrap": 100}, shared, "judge_llm", judge=as_dict(llm), data=samples,
                             output_dir=str(folder))

    def reward_model_settings(self) -> dict[str, Any]:
        """The settings that every step of the reward models gets."""
        return {**self.shared, "max_length": self.config.judge_rm.max_length or self.config.max_length}


def value_for_iteration(values: list[Value], number: int) -> Value:
    """The value for an iteration, from 1; the last one for all that follow."""
    return values[min(number, len(values)) - 1]
