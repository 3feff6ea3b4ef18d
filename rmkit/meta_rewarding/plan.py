"""The plan of a run: every step's configuration, built, and so checked, before the first step starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rmkit.commands.compare import CompareConfig
from rmkit.commands.dpo import DpoConfig
from rmkit.commands.judge import JudgeConfig
from rmkit.commands.read import ReadConfig
from rmkit.commands.run import GOLD, build_section
from rmkit.commands.sample import SampleConfig
from rmkit.commands.sft import SftConfig
from rmkit.commands.synthetic import BASE_MODEL, EVALUATION, PROMPTS, WORLD, SyntheticLMConfig
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.data.samples import SAMPLES
from rmkit.judges.config import LLMJudgeConfig
from rmkit.meta_rewarding.config import MetaRewardConfig
from rmkit.meta_rewarding.eft import LESSONS, EftConfig
from rmkit.meta_rewarding.meta_judging import MetaJudgingConfig
from rmkit.meta_rewarding.metrics import MetricsConfig
from rmkit.meta_rewarding.pairs import HOLD, LANGUAGE, REWARD, PairConfig
from rmkit.meta_rewarding.reward_models import UpdateRewardModelsConfig

LABELLED = "labelled"
Value = TypeVar("Value")


@dataclass
class Iteration:
    """One iteration's steps, in order; None for those that it does not take. `number`: from 1."""

    number: int
    model: str
    prompts: Path
    sample: SampleConfig | None
    judge: JudgeConfig | None
    follow: UpdateRewardModelsConfig | None
    battle: MetaJudgingConfig | None
    pair: PairConfig | None
    dpo: DpoConfig


@dataclass
class PolicyEvaluation:
    """What is done to measure a policy and its judge."""

    responses: SampleConfig
    judges: list[JudgeConfig]
    figures: MetricsConfig


@dataclass
class LoopPlan:
    """All steps: of the world, before the loop, of each iteration, and of each policy, the first one's at place 0."""

    school: SyntheticLMConfig | None
    read: ReadConfig | None
    prompts: str
    exam: JudgeConfig | None
    teach: EftConfig | None
    sft: SftConfig | None
    iterations: list[Iteration]
    measures: list[PolicyEvaluation]
    compare: CompareConfig | None


def plan_loop(config: MetaRewardConfig) -> LoopPlan:
    """Every step's configuration, with the folders in between. Raises `InputError` for any that is out of place."""
    folder = Path(config.output_dir)
    school, places = None, {name: getattr(config, name) for name in
                            ("model_name_or_path", "prompts", "evaluation_prompts")}
    if GOLD in places.values() or plan_read(config) is not None:
        home = folder / "school"
        school = build_section(SyntheticLMConfig, config.school, {"seed": config.seed}, "school", output_dir=str(home))
        gold = {"model_name_or_path": home / BASE_MODEL, "prompts": home / WORLD / PROMPTS,
                "evaluation_prompts": home / WORLD / EVALUATION}
        places = {name: str(gold[name]) if place == GOLD else place for name, place in places.items()}
    model, sft = str(places["model_name_or_path"]), None
    shared = {"seed": config.seed, "max_length": config.max_length, "trust_remote_code": config.trust_remote_code}
    exam, teach = plan_eft(config, model, shared)
    if config.sft is not None or teach is not None:
        own = dict(config.sft or {})
        if teach is not None:
            own["data"] = str(Path(teach.output_dir) / LESSONS)
        sft = build_section(SftConfig, own, shared, "sft", model_name_or_path=model, output_dir=str(folder / "sft"))
        model = str(folder / "sft")
    policies = [model, *(str(folder / f"iteration-{number}" / "model") for number in range(1, config.iterations + 1))]
    iterations = [plan_iteration(config, number, policies, shared) for number in range(1, config.iterations + 1)]
    measures = []
    if places["evaluation_prompts"] is not None:
        measures = [plan_evaluations(config, str(places["evaluation_prompts"]), place, policies, iterations, shared)
                    for place in range(len(policies))]
    compare = None
    if config.compare is not None:
        answers = {f"policy-{place}": own.responses.output_dir for place, own in enumerate(measures)}
        compare = build_section(
            CompareConfig, config.compare, shared, "compare", policies=answers, output_dir=str(folder / "compare")
        )
    return LoopPlan(school, plan_read(config), str(places["prompts"]), exam, teach, sft, iterations, measures, compare)


def plan_eft(
    config: MetaRewardConfig, model: str, shared: dict[str, Any]
) -> tuple[JudgeConfig | None, EftConfig | None]:
    """The model's judgments of ranked responses, and the lessons made of them."""
    if config.eft is None:
        return None, None
    folder = Path(config.output_dir) / "eft"
    if "data" not in config.eft:
        raise_input_error(
            "eft: data", "prompts with ranked responses", Verbatim("none"), "Name them, or leave eft out."
        )
    exam = plan_judge(config, model, str(config.eft["data"]), folder / "judgments", shared)
    return exam, build_section(
        EftConfig, config.eft, shared, "eft", judgments=exam.output_dir, output_dir=str(folder / "lessons"),
        question=config.question, tokenizer=None if config.server else model,
        instructions=(config.sft or {}).get("data"),
    )


def plan_iteration(config: MetaRewardConfig, number: int, policies: list[str], shared: dict[str, Any]) -> Iteration:
    """One iteration's steps, from the policy that the one before has made."""
    model = policies[number - 1]
    folder = Path(config.output_dir) / f"iteration-{number}"
    first = Path(config.output_dir) / "iteration-1"
    shared = {**shared, "seed": derive_seed(config.seed, "iteration", number)}
    prompts = Path(config.output_dir) / "prompts" / f"iteration-{number}.jsonl"
    samples = str(folder / "samples" / SAMPLES)
    sample = judge = follow = battle = pair = None
    data = config.fixed_pairs
    if data is None:
        data = str(folder / "pairs")
        sample = build_section(
            SampleConfig,
            {"samples": 7, **default_sampling(), **config.sample},
            shared,
            "sample",
            **server_kwargs(config),
            data=str(prompts),
            model_name_or_path=model,
            output_dir=str(folder / "samples"),
        )
        if config.judge != REWARD:
            judge = plan_judge(config, model, samples, folder / "judgments", shared)
        if config.judge != LANGUAGE:
            follow = plan_reward_models(config, number, policies[0], samples, folder, shared)
        if number <= config.judge_pairs:
            battle = plan_meta_judging(config, model, folder, shared)
        rho = value_for_iteration(config.rho, number)
        held = first / ("judgments" if judge else "rewards") if rho == HOLD else None
        pair = build_section(
            PairConfig, config.pairs, {}, "pairs", output_dir=data, language=judge and judge.output_dir,
            reward=follow and str(folder / "rewards"), battles=battle and battle.output_dir, rho=rho,
            length_of=held and str(held), max_response=value_for_iteration(config.max_response, number),
            max_judgment=value_for_iteration(config.max_judgment, number),
        )
    dpo = build_section(
        DpoConfig,
        {"learning_rate": 5e-6, "num_train_epochs": 10.0, **config.dpo},
        shared,
        "dpo",
        data=data,
        model_name_or_path=model,
        output_dir=str(folder / "model"),
    )
    return Iteration(number, model, prompts, sample, judge, follow, battle, pair, dpo)


def plan_judge(config: MetaRewardConfig, model: str, samples: str, place: Path, shared: dict[str, Any]) -> JudgeConfig:
    """The policy's judgments of samples."""
    asked = judge_settings(config, model, {"samples": 11, **config.language}, "language")
    return build_section(
        JudgeConfig, {"n_bootstrap": 100}, shared, "language", language_model=asked, data=samples, output_dir=str(place)
    )


def plan_meta_judging(config: MetaRewardConfig, model: str, folder: Path, shared: dict[str, Any]) -> MetaJudgingConfig:
    """The meta-judge's comparisons."""
    own = dict(config.meta)
    kept: dict[str, Any] = {name: own.pop(name) for name in ("most", "at_once") if name in own}
    return build_section(
        MetaJudgingConfig,
        kept,
        shared,
        "meta",
        language_model=judge_settings(config, model, own, "meta"),
        data=str(folder / "judgments"),
        output_dir=str(folder / "battles"),
    )


def judge_settings(config: MetaRewardConfig, model: str, settings: dict[str, Any], name: str) -> LLMJudgeConfig:
    """The policy as judge or meta-judge, as the section `name` says."""
    return build_section(
        LLMJudgeConfig,
        {**default_sampling(), **settings},
        {},
        name,
        model_name_or_path=model,
        question=config.question,
        **server_kwargs(config),
    )


def plan_reward_models(
    config: MetaRewardConfig, number: int, first: str, samples: str, folder: Path, shared: dict[str, Any]
) -> UpdateRewardModelsConfig:
    """The reward models of an iteration."""
    folders = Path(config.output_dir)
    own = {"model_name_or_path": first, "data": str(folders / LABELLED), **config.reward}
    if own["data"] == GOLD:
        own["data"] = str(folders / LABELLED)
    return build_section(
        UpdateRewardModelsConfig,
        own,
        {**shared, "seed": config.seed},
        "reward",
        samples=samples,
        output_dir=str(folder),
        earlier=[str(folders / f"iteration-{past}" / "fresh") for past in range(1, number)]
        if own.get("fresh", True)
        else [],
        before=str(folders / f"iteration-{number - 1}") if number > 1 else None,
    )


def plan_read(config: MetaRewardConfig) -> ReadConfig | None:
    """The reading of the gold world's labelled pairs, where reward models are trained on them."""
    if config.judge == LANGUAGE or config.fixed_pairs is not None or config.reward.get("data", GOLD) != GOLD:
        return None
    if GOLD not in (config.prompts, config.model_name_or_path) and "data" not in config.reward:
        raise_input_error(
            "reward: data", "labelled pairs to train reward models on", Verbatim("none"), "A folder of `rmkit read`."
        )
    world = Path(config.output_dir) / "school" / WORLD
    files = {"data": "train", "validation": "validation", "test": "test"}
    return build_section(
        ReadConfig,
        {},
        {"seed": config.seed},
        "read",
        output_dir=str(Path(config.output_dir) / LABELLED),
        **{role: str(world / f"{split}.jsonl") for role, split in files.items()},
    )


def plan_evaluations(
    config: MetaRewardConfig, prompts: str, place: int, policies: list[str], iterations: list[Iteration],
    shared: dict[str, Any],
) -> PolicyEvaluation:
    """How the policy at `place` is measured: its responses, and its judgments of the first policy's."""
    folder = Path(config.output_dir) / "measures" / f"policy-{place}"
    first = Path(config.output_dir) / "measures" / "policy-0" / "responses"
    shared = {**shared, "seed": derive_seed(config.seed, "evaluation")}
    settings = {"samples": 4, "prompts": None, "temperature": 1.0, "top_p": 1.0, **config.evaluation}
    room = {"max_new_tokens": config.sample["max_new_tokens"]} if "max_new_tokens" in config.sample else {}
    responses = build_section(
        SampleConfig, {**room, **settings}, shared, "evaluation", **server_kwargs(config), data=prompts,
        model_name_or_path=policies[place], output_dir=str(folder / "responses"),
    )
    judges = {}
    if config.fixed_pairs is None and config.judge != REWARD:
        judges[LANGUAGE] = plan_judge(config, policies[place], str(first / SAMPLES), folder / "judgments", shared)
    if config.fixed_pairs is None and config.judge != LANGUAGE and place:
        follow = iterations[place - 1].follow
        assert follow is not None
        judges[REWARD] = follow.plan_judge(str(first / SAMPLES), str(folder / "rewards"))
    figures = MetricsConfig(
        responses=str(folder / "responses"), reference_responses=str(first), policy=policies[place],
        reference=policies[0], judges={name: judge.output_dir for name, judge in judges.items()},
        output_dir=str(folder / "figures"), max_length=config.max_length, seed=config.seed,
        trust_remote_code=config.trust_remote_code,
    )
    return PolicyEvaluation(responses, list(judges.values()), figures)


def default_sampling() -> dict[str, float]:
    """The paper's sampling, of responses, judgments and verdicts alike."""
    return {"temperature": 0.8, "top_p": 0.95}


def server_kwargs(config: MetaRewardConfig) -> dict[str, Any]:
    """Where models generate."""
    server = config.server
    if server is None:
        return {}
    return {"base_url": server.base_url, "api_key_env": server.api_key_env, "concurrency": server.concurrency}


def value_for_iteration(values: list[Value], number: int) -> Value:
    """The value for an iteration; the last one for all that follow."""
    return values[min(number, len(values)) - 1]
