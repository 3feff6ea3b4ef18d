"""The plan of a run: the steps with their configurations, all built, and so checked, before the first step starts."""

from functools import partial
from pathlib import Path
from typing import Any, TypeVar

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
from rmkit.core.steps import Steps, get_config, make_step
from rmkit.data.samples import SAMPLES
from rmkit.judges.base import Scale
from rmkit.judges.config import LLMJudgeConfig
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.meta_rewarding.config import MetaRewardConfig
from rmkit.meta_rewarding.drift import measure_drift
from rmkit.meta_rewarding.eft import TRAIN_FILE, write_eft_data
from rmkit.meta_rewarding.meta_judging import run_meta_judging
from rmkit.meta_rewarding.metrics import evaluate_policy
from rmkit.meta_rewarding.pairs import write_pairs
from rmkit.meta_rewarding.prompts import split_prompts
from rmkit.meta_rewarding.reward_models import plan_ensemble_judge, plan_reward_models
from rmkit.meta_rewarding.step_config import LLM, MATCH_LENGTH, REWARD_MODEL, EftConfig, MetaJudgingConfig, PairConfig

# Of `rmkit synthetic`: enough demonstrations of judging for a language model that is its own judge.
SYNTHETIC_SIZES = {"prompts": 2000, "evaluation_prompts": 200, "demonstrations": 6000, "min_quality": 0.0,
                   "judgments": 12000, "verdicts": 6000}
SAMPLING = {"temperature": 0.8, "top_p": 0.95}  # the paper's, of responses, judgments and verdicts
Value = TypeVar("Value")


class LoopPlan:
    """The steps of a run. Raises `InputError` for a setting that does not fit.

    setup: the steps before the loop. iterations: those of each iteration. evaluations: those that measure each of the
    `policies`, which are the first policy and that of each iteration. compare: the comparison of all policies.
    """

    def __init__(self, config: MetaRewardConfig) -> None:
        self.config = config
        self.folder = Path(config.output_dir)
        self.shared = {name: getattr(config, name) for name in ("seed", "max_length", "trust_remote_code")}
        self.ensemble_settings = {**self.shared, "max_length": config.judge_rm.max_length or config.max_length}
        self.server: dict[str, Any] = {}
        if config.server is not None:
            self.server = {name: getattr(config.server, name) for name in ("base_url", "api_key_env", "concurrency")}
        self.llm, self.reward_models = (
            config.offline_pairs is None and config.judge in (name, "both") for name in (LLM, REWARD_MODEL)
        )
        synthetic_files = {key: str(self.folder / SYNTHETIC / name) for key, name in (
            ("model_name_or_path", BASE_MODEL), ("prompts", "prompts.jsonl"), ("evaluation_prompts", "evaluation.jsonl")
        )}
        self.model, self.prompts, self.evaluation_prompts = (
            path if getattr(config, key) == SYNTHETIC else getattr(config, key) for key, path in synthetic_files.items()
        )
        self.labelled = config.judge_rm.data or str(self.folder / "labelled")
        fine_tunes = config.sft is not None or config.eft is not None
        first = str(self.folder / "sft") if fine_tunes else self.model
        self.policies = [first, *(str(self.iteration(number) / "model") for number in range(1, config.iterations + 1))]
        self.setup = self.plan_setup()
        self.iterations = [self.plan_iteration(number) for number in range(1, config.iterations + 1)]
        self.evaluations: list[Steps] = []
        if self.evaluation_prompts is not None:
            self.evaluations = [self.plan_evaluation(number) for number in range(len(self.policies))]
        self.compare: CompareConfig | None = None
        if config.compare is not None:
            responses = {f"policy-{number}": get_config(steps["responses"]).output_dir
                         for number, steps in enumerate(self.evaluations)}
            self.compare = build_section(CompareConfig, config.compare, self.shared, "compare", policies=responses,
                                         output_dir=str(self.folder / "compare"))

    def iteration(self, number: int) -> Path:
        """The folder of an iteration, from 1."""
        return self.folder / f"iteration-{number}"

    def plan_setup(self) -> Steps:
        """Synthetic data, EFT data, supervised fine-tuning and the prompts of each iteration, where they are used."""
        config, folder, seed = self.config, self.folder / SYNTHETIC, {"seed": self.config.seed}
        needs_pairs = self.reward_models and config.judge_rm.data is None
        if needs_pairs and SYNTHETIC not in (config.prompts, config.model_name_or_path):
            raise_input_error(
                "judge_rm.data", "labelled pairs to train on", Verbatim("none"), "Name a folder of `rmkit read`."
            )
        steps: Steps = {}
        if needs_pairs or SYNTHETIC in (config.prompts, config.model_name_or_path, config.evaluation_prompts):
            steps["synthetic"] = make_step(synthetic, SyntheticConfig, {**SYNTHETIC_SIZES, **config.synthetic}, seed,
                                           "synthetic", output_dir=str(folder))
        if needs_pairs:
            files = {"data": "train", "validation": "validation", "test": "test"}
            steps["read"] = make_step(read, ReadConfig, {}, seed, "read", output_dir=self.labelled,
                                      **{key: str(folder / f"{split}.jsonl") for key, split in files.items()})
        steps |= self.plan_fine_tuning()
        if config.iterations and config.offline_pairs is None:
            steps["prompts"] = partial(
                split_prompts, self.prompts, self.folder / "prompts", per_iteration=config.prompts_per_iteration,
                iterations=config.iterations, seed=config.seed,
            )
        return steps

    def plan_fine_tuning(self) -> Steps:
        """EFT data and supervised fine-tuning."""
        config, folder, settings = self.config, self.folder / "eft", dict(self.config.sft or {})
        steps: Steps = {}
        if config.eft is not None:
            steps["judge_llm"] = self.plan_judge(
                self.model, str(config.eft.get("data")), folder / "judgments", self.shared
            )
            steps["eft"] = make_step(
                write_eft_data, EftConfig, config.eft, self.shared, "eft", judgments=str(folder / "judgments"),
                output_dir=str(folder / "data"), judge_prompt=config.judge_prompt,
                tokenizer=None if config.server else self.model, instructions=settings.pop("data", None),
            )
            settings["data"] = str(folder / "data" / TRAIN_FILE)
        if config.eft is not None or config.sft is not None:
            steps["sft"] = make_step(sft, SftConfig, settings, self.shared, "sft", model_name_or_path=self.model,
                                     output_dir=self.policies[0])
        return steps

    def plan_iteration(self, number: int) -> Steps:
        """Sampling, judging, pairs, and the DPO training from the policy of the iteration before."""
        config, folder, model = self.config, self.iteration(number), self.policies[number - 1]
        shared = {**self.shared, "seed": derive_seed(config.seed, "iteration", number)}
        steps = self.plan_pairs(number, folder, model, shared) if config.offline_pairs is None else {}
        settings = {"learning_rate": 5e-6, "num_train_epochs": 10.0, **config.dpo}
        steps["dpo"] = make_step(
            dpo, DpoConfig, settings, shared, "dpo", data=config.offline_pairs or str(folder / "pairs"),
            model_name_or_path=model, output_dir=self.policies[number],
        )
        return steps

    def plan_pairs(self, number: int, folder: Path, model: str, shared: dict[str, Any]) -> Steps:
        """The steps of an iteration that make its pairs."""
        config = self.config
        samples, judgments, rewards = folder / "samples", folder / "judgments", folder / "rewards"
        steps: Steps = {"sample": make_step(
            sample, SampleConfig, {"samples": 7, **SAMPLING, **config.sample}, shared, "sample", **self.server,
            data=str(self.folder / "prompts" / f"iteration-{number}.jsonl"), model_name_or_path=model,
            output_dir=str(samples),
        )}
        inputs: dict[str, Any] = {}
        if self.llm:
            inputs["llm_judgments"] = str(judgments)
            steps["judge_llm"] = self.plan_judge(model, str(samples / SAMPLES), judgments, shared)
        if number <= config.judge_pairs:
            inputs["meta_judgments"] = str(folder / "meta_judgments")
            steps["meta_judge"] = make_step(
                run_meta_judging, MetaJudgingConfig, {**SAMPLING, **config.meta_judge}, shared, "meta_judge",
                **self.server, model_name_or_path=model, prompt=config.judge_prompt, data=str(judgments),
                output_dir=inputs["meta_judgments"],
            )
        if self.reward_models:
            inputs["reward_judgments"] = str(rewards)
            steps |= plan_reward_models(
                config.judge_rm, data=self.labelled, model=config.judge_rm.model_name_or_path or self.policies[0],
                samples=str(samples / SAMPLES), output_dir=folder, shared=self.ensemble_settings,
                previous=[self.iteration(past) for past in range(1, number)],
            )
        rho = value_for_iteration(config.rho, number)
        first = self.iteration(1) / ("judgments" if self.llm else "rewards")
        steps["pairs"] = make_step(
            write_pairs, PairConfig, config.pairs, {}, "pairs", output_dir=str(folder / "pairs"), **inputs, rho=rho,
            length_reference=str(first) if rho == MATCH_LENGTH else None,
            max_response=value_for_iteration(config.max_response, number),
            max_judgment=value_for_iteration(config.max_judgment, number),
        )
        scale = JUDGE_PROMPTS[config.judge_prompt].scale
        if not self.llm:
            scale = Scale(config.judge_rm.score_min, config.judge_rm.score_max)
        steps["drift"] = partial(measure_drift, judgments if self.llm else rewards, inputs.get("meta_judgments"),
                                 folder / "drift", scale=scale)
        return steps

    def plan_evaluation(self, number: int) -> Steps:
        """How policy `number` is measured: its responses, and its judges' scores of the first policy's responses."""
        config, policy = self.config, self.policies[number]
        folder, first = (self.folder / "evaluation" / f"policy-{policy}" for policy in (number, 0))
        shared = {**self.shared, "seed": derive_seed(config.seed, "evaluation")}
        settings = {"samples": 4, "prompts": None, "temperature": 1.0, "top_p": 1.0, **config.evaluation}
        if "max_new_tokens" in config.sample:
            settings = {"max_new_tokens": config.sample["max_new_tokens"], **settings}
        responses, samples = str(folder / "responses"), str(first / "responses" / SAMPLES)
        steps: Steps = {"responses": make_step(
            sample, SampleConfig, settings, shared, "evaluation", **self.server, data=self.evaluation_prompts,
            model_name_or_path=policy, output_dir=responses,
        )}
        judgments = {}
        if self.llm:
            judgments[LLM] = str(folder / "judgments")
            steps["judge_llm"] = self.plan_judge(policy, samples, folder / "judgments", shared)
        if self.reward_models and number:
            judgments[REWARD_MODEL] = str(folder / "rewards")
            steps["judge_rm"] = plan_ensemble_judge(
                config.judge_rm, self.iteration(number), samples, folder / "rewards", self.ensemble_settings
            )
        steps["metrics"] = partial(
            evaluate_policy, responses, str(first / "responses"), str(folder / "metrics"), policy=policy,
            reference=self.policies[0], judgments=judgments, **self.shared,
        )
        return steps

    def plan_judge(self, model: str, samples: str, folder: Path, shared: dict[str, Any]) -> partial[Path]:
        """The judgments of samples by the language model `model`."""
        settings = {**SAMPLING, "samples": 11, **self.config.judge_llm}
        llm = build_section(LLMJudgeConfig, settings, {}, "judge_llm", model_name_or_path=model,
                            prompt=self.config.judge_prompt, **self.server)
        return make_step(judge, JudgeConfig, {"n_bootstrap": 100}, shared, "judge_llm", judge=as_dict(llm),
                         data=samples, output_dir=str(folder))


def value_for_iteration(values: list[Value], number: int) -> Value:
    """The value for an iteration, from 1; the last one for all that follow."""
    return values[min(number, len(values)) - 1]
