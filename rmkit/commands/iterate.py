"""`rmkit iterate`: iterative RLHF with MetaRM, beside the same rounds with a reward model that is trained once."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rmkit.commands.read import ReadConfig, read
from rmkit.commands.rl import RlConfig, rl
from rmkit.commands.sample import SampleConfig, sample
from rmkit.commands.synthetic import BASE_MODEL, SYNTHETIC, SyntheticConfig, synthetic
from rmkit.commands.train import TrainConfig, train
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import as_dict, build_section, configuration, option, section
from rmkit.core.stage import write_json
from rmkit.core.steps import Steps, get_config, make_step, run_steps

PLAIN, METARM = "plain", "metarm"
ROUNDS = "rounds.json"
COLUMNS = ("gold", "win_rate", "reward", "kl", "accuracy_before", "accuracy", "spread_before", "spread", "length",
           "duplicates")
STEPS = ("data", "model_name_or_path", "output_dir", "trust_remote_code")  # keys that `iterate` sets for every step


@configuration
class MetaRMSettings:
    """The keys of `rmkit train` that only MetaRM has."""

    meta_data: str = option(help="Rows of `prompt` and `responses`, without labels.")
    meta_learning_rate: float = option(help="Step size along the gradient of the difference loss.", gt=0)
    meta_batch_size: int | None = option(None, "Prompts of a perturbation; null: as many as a step has pairs.", ge=1)
    meta_steps: int = option(1, "Optimizer steps from one perturbation to the next.", ge=1)


@configuration
class IterateConfig:
    """Iterative RLHF: each round samples the policy, trains a reward model, optimises the policy and measures it.

    The variant `metarm` trains a reward model in each round, by MetaRM on the round's samples; `plain` trains one
    reward model for all rounds.
    """

    output_dir: str = option(help="Output folder.")
    data: str = option(SYNTHETIC, "Labelled pairs: a folder of `rmkit read`, a Parquet file, or `synthetic`.")
    model_name_or_path: str = option(SYNTHETIC, "The SFT policy: a folder, a hub name, or `synthetic`.")
    evaluation_prompts: str | None = option(
        None, "Rows of `prompt` to measure the policy on, or `synthetic`, the default with data: synthetic."
    )
    prompts: str | None = option(None, "Rows of `prompt` to sample and optimise on; null: those of the pairs.")
    reward_model: str | None = option(None, "Base model of the reward models; null: the SFT policy.")
    variants: list[Literal["plain", "metarm"]] = option(
        default_factory=lambda: [PLAIN, METARM], help="Variants to run.", min_length=1
    )
    rounds: int = option(4, "Rounds of each variant.", ge=1)
    scale_rewards: bool = option(True, "Divide rewards by their spread on the policy's responses before each round.")
    max_length: int = option(1024, "Tokens of a prompt with its response.", ge=1)
    seed: int = option(0, "Seed of every step.")
    trust_remote_code: bool = option(False, "Run code that comes with the models.")
    synthetic: dict[str, Any] = section(
        "rmkit.commands.synthetic:SyntheticConfig", "The synthetic data and their model.", fixed=("output_dir",)
    )
    sample: dict[str, Any] = section("rmkit.commands.sample:SampleConfig", "Sampling for MetaRM.", fixed=STEPS)
    train: dict[str, Any] = section(
        "rmkit.commands.train:TrainConfig", "The training of the reward models.", fixed=(*STEPS, "meta_data")
    )
    metarm: dict[str, Any] = section(
        "rmkit.commands.iterate:MetaRMSettings", "MetaRM's keys of the training.", fixed=("meta_data",)
    )
    rl: dict[str, Any] = section(
        "rmkit.commands.rl:RlConfig", "The policy optimisation.", fixed=(*STEPS, "reward_model", "reference")
    )

    def __post_init__(self) -> None:
        if self.evaluation_prompts is None and self.data != SYNTHETIC:
            raise_input_error(
                "evaluation_prompts", "prompts to measure on, with data of your own", Verbatim("none"),
                "Name rows of `prompt`, such as the test.parquet of `rmkit read`.",
            )
        if self.scale_rewards and "reward_scale" in self.rl:
            raise_input_error(
                "rl.reward_scale", "none with scale_rewards, which sets it", self.rl["reward_scale"],
                "Remove it, or set scale_rewards to false.",
            )


def iterate(config: IterateConfig) -> Path:
    """Run every step that is not finished yet; print the rounds and write them into `rounds.json`, the path returned.

    A killed run continues with the same call, the trainings from their last checkpoints.
    """
    from rmkit.data.parquet import split_path
    from rmkit.data.sources import find_files
    from rmkit.training.config import check_training
    from rmkit.training.zero import check_single_process

    check_single_process("iterate", "train and rl")
    planner = IteratePlanner(config)
    setup = planner.plan_setup()
    variants = {variant: planner.plan_variant(variant) for variant in config.variants}
    for rounds in variants.values():
        for name in ("train", "rl"):
            check_training(get_config(rounds[0][name]), name)
    if config.data != SYNTHETIC:
        split_path(config.data, "train")
    run_steps({name: step for name, step in setup.items() if name != "sft"})
    find_files(planner.prompts)
    run_steps({"sft": setup["sft"]})
    metrics: dict[str, Any] = {variant: run_rounds(rounds) for variant, rounds in variants.items()}
    path = Path(config.output_dir) / ROUNDS
    write_json(path, {"key": ROUNDS, "rounds": metrics})
    print(format_rounds(metrics))
    return path


class IteratePlanner:
    """Builds the steps of a run with their configurations, which are checked before the first step starts."""

    def __init__(self, config: IterateConfig) -> None:
        self.config = config
        self.folder = Path(config.output_dir)
        self.shared = {"seed": config.seed, "max_length": config.max_length,
                       "trust_remote_code": config.trust_remote_code}
        folder = self.folder / SYNTHETIC
        self.policy = config.model_name_or_path if config.model_name_or_path != SYNTHETIC else str(folder / BASE_MODEL)
        self.pairs = config.data if config.data != SYNTHETIC else str(self.folder / "pairs")
        evaluation = config.evaluation_prompts or SYNTHETIC
        self.evaluation_prompts = evaluation if evaluation != SYNTHETIC else str(folder / "evaluation.jsonl")
        self.prompts = config.prompts or (
            self.pairs if Path(self.pairs).is_file() else str(Path(self.pairs) / "train.parquet")
        )
        self.makes_data = SYNTHETIC in (config.model_name_or_path, config.data, evaluation)
        self.sft_responses = self.plan_responses(self.policy, self.folder / "sft")

    def plan_setup(self) -> Steps:
        """The synthetic data, if they are used, and the SFT policy's responses."""
        steps: Steps = {}
        folder = self.folder / SYNTHETIC
        if self.makes_data:
            sizes = {"evaluation_prompts": 200, **self.config.synthetic}
            steps["synthetic"] = make_step(synthetic, SyntheticConfig, sizes, {"seed": self.config.seed}, "synthetic",
                                           output_dir=str(folder))
        if self.config.data == SYNTHETIC:
            files = {"data": "train", "validation": "validation", "test": "test"}
            steps["read"] = make_step(read, ReadConfig, {}, {}, "read", output_dir=self.pairs,
                                      **{key: str(folder / f"{split}.jsonl") for key, split in files.items()})
        steps["sft"] = partial(sample, self.sft_responses)
        return steps

    def plan_responses(self, policy: str, folder: Path) -> SampleConfig:
        """The responses that a policy is measured on: as in `sample`, at temperature 1."""
        from rmkit.core.seeds import derive_seed

        kept = ("samples", "max_new_tokens", "max_tokens_per_batch")
        settings = {name: value for name, value in self.config.sample.items() if name in kept}
        shared = {**self.shared, "seed": derive_seed(self.config.seed, "evaluation")}
        return build_section(SampleConfig, settings, shared, "sample", data=self.evaluation_prompts,
                             model_name_or_path=policy, output_dir=str(folder), temperature=1.0, top_p=1.0)

    def plan_variant(self, variant: str) -> list[Steps]:
        """The rounds of a variant; each starts from the policy of the one before."""
        rounds = []
        policy, responses = self.policy, self.sft_responses
        for number in range(1, self.config.rounds + 1):
            folder = self.folder / variant / f"round-{number}"
            next_responses = self.plan_responses(str(folder / "policy"), folder / "responses")
            rounds.append(self.plan_round(number, folder, policy, responses, next_responses, variant == METARM))
            policy, responses = str(folder / "policy"), next_responses
        return rounds

    def plan_round(
        self, number: int, folder: Path, policy: str, responses: SampleConfig, next_responses: SampleConfig,
        metarm: bool,
    ) -> Steps:
        """Sampling (MetaRM only), reward model, metrics before, policy optimisation, and metrics after."""
        from rmkit.core.seeds import derive_seed
        from rmkit.data.samples import SAMPLES
        from rmkit.evaluation.policy_metrics import measure_policy

        config = self.config
        shared = {**self.shared, "seed": derive_seed(config.seed, "round", number)}
        steps: Steps = {}
        reward_model, meta = str(folder.parent / "reward_model"), {"meta_data": None}
        if metarm:
            steps["sample"] = make_step(
                sample, SampleConfig, config.sample, shared, "sample", data=self.prompts, model_name_or_path=policy,
                output_dir=str(folder / "samples"),
            )
            reward_model = str(folder / "reward_model")
            meta = plan_metarm(config.metarm, str(folder / "samples" / SAMPLES))
        steps["train"] = make_step(
            train, TrainConfig, config.train, self.shared, "train",  # with the same seed, and so order, in every round
            data=self.pairs, model_name_or_path=config.reward_model or self.policy, output_dir=reward_model, **meta,
        )
        before, after = (
            partial(
                measure_policy, drawn.output_dir, self.sft_responses.output_dir, policy=drawn.model_name_or_path,
                reference=self.policy, reward_model=reward_model, output_dir=str(folder / name),
                max_length=config.max_length, trust_remote_code=config.trust_remote_code,
            )
            for name, drawn in (("before", responses), ("after", next_responses))
        )
        steps["before"] = before
        optimisation = build_section(
            RlConfig, config.rl, shared, "rl", data=self.prompts, model_name_or_path=policy, reference=self.policy,
            reward_model=reward_model, output_dir=str(folder / "policy"),
        )
        steps["rl"] = partial(rl, optimisation)
        if config.scale_rewards:
            steps["rl"] = partial(optimise_scaled, optimisation, before)
        steps["responses"] = partial(sample, next_responses)
        steps["after"] = after
        return steps


def plan_metarm(settings: dict[str, Any], samples: str, name: str = METARM) -> dict[str, Any]:
    """MetaRM's keys of a training on `samples`. Raises `InputError` for other keys of the training."""
    return as_dict(build_section(MetaRMSettings, settings, {}, name, meta_data=samples))


def optimise_scaled(config: RlConfig, measure: Callable[[], dict[str, Any]]) -> Path:
    """Optimise the policy with rewards divided by their spread, which `measure` finds before the round."""
    return rl(dataclasses.replace(config, reward_scale=measure()["spread"] or 1.0))


def run_rounds(rounds: list[Steps]) -> list[dict[str, Any]]:
    """The metrics of the SFT policy, under the first reward model, and of the policy after each round."""
    metrics: list[dict[str, Any]] = []
    for steps in rounds:
        results = run_steps(steps)
        before, after = results["before"], results["after"]
        if not metrics:
            metrics.append(before)
        metrics.append({**after, "accuracy_before": before.get("accuracy"), "spread_before": before["spread"]})
    return metrics


def format_rounds(rounds: Mapping[str, list[dict[str, Any]]]) -> str:
    """A table of every variant's rounds; round 0 is the SFT policy."""
    from rmkit.evaluation.tables import format_number, format_table

    lines = [[f"{variant}, round {index}", *(format_number(metrics.get(name)) for name in COLUMNS)]
             for variant, rows in rounds.items() for index, metrics in enumerate(rows)]
    return format_table(["variant", *COLUMNS], lines)
