"""`rmkit iterate`: rounds of sampling, MetaRM and policy optimisation, beside the same rounds with a plain RM."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rmkit.commands.read import ReadConfig, read
from rmkit.commands.rl import RlConfig, rl
from rmkit.commands.run import GOLD, build_section
from rmkit.commands.sample import SampleConfig, sample
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.commands.train import TrainConfig, train
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage, write_json
from rmkit.data.parquet import split_path
from rmkit.data.samples import SAMPLES
from rmkit.data.sources import find_files
from rmkit.data.synthetic.dataset import draw_prompts
from rmkit.evaluation.policy_metrics import PolicyMetricsConfig, measure_policy
from rmkit.evaluation.tables import align, number
from rmkit.training.zero import under_launcher

PLAIN, META = "plain", "metarm"
EVALUATION = "evaluation.jsonl"
ROUNDS = "rounds.json"
COLUMNS = ("gold", "win_rate", "reward", "kl", "accuracy_before", "accuracy", "spread_before", "spread", "length",
           "duplicates")


@dataclass
class IterateConfig:
    """Iterative RLHF from the SFT policy `model_name_or_path` on; each step's folder lies in `output_dir`.

    A round: samples of the policy as it stands, to `prompts`; a reward model trained by MetaRM on the pairs `data`
    with those samples (arm "metarm") or without (arm "plain", whose rounds share one); the policy optimised against it,
    with a penalty for its distance from the SFT policy; its responses to `evaluation_prompts` measured. `prompts` are
    by default those of the pairs; others take reward model and policy to their distribution, without a label.
    `reward_model`: what every reward model's training begins with, by default the SFT policy. `scale_rewards` divides
    rewards by their spread on the policy's responses before each round, so that a reward model's scale is no matter;
    without it, they are divided by `reward_scale` of `rl`.

    `data` is a folder of `rmkit read` or a Parquet file. It, `model_name_or_path` and `evaluation_prompts` may be
    "gold", the embedded world (of the size that `gold` says, and `evaluation` prompts, drawn apart from the pairs).
    `evaluation_prompts` are by default "gold" with the data "gold"; with other data they have to be named. `train`,
    `sample` and `rl` hold the keys of these commands, `meta` MetaRM's of `train`; what this level sets is not
    theirs to set. The responses that are measured are drawn at temperature 1.
    """

    output_dir: str
    data: str = GOLD
    model_name_or_path: str = GOLD
    evaluation_prompts: str | None = None
    evaluation: int = 200
    prompts: str | None = None
    reward_model: str | None = None
    arms: list[str] = field(default_factory=lambda: [PLAIN, META])
    rounds: int = 4
    scale_rewards: bool = True
    max_length: int = 1024
    seed: int = 0
    trust_remote_code: bool = False
    gold: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    reinforce: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.arms) - {PLAIN, META})
        if unknown or not self.arms:
            raise_input_error("arms", f"{PLAIN}, {META} or both", self.arms, "Both, to compare them.")
        if self.rounds < 1:
            raise_input_error(
                "rounds", "at least 1", self.rounds, "The paper's best policies are those of rounds 3 and 4."
            )
        if self.evaluation_prompts is None and self.data != GOLD:
            raise_input_error(
                "evaluation_prompts",
                "prompts to measure on, with data other than gold",
                Verbatim("none"),
                "Name rows with a prompt, such as the test.parquet of `rmkit read`.",
            )
        if self.scale_rewards and "reward_scale" in self.reinforce:
            raise_input_error(
                "reinforce: reward_scale",
                "none with scale_rewards, which sets it",
                self.reinforce["reward_scale"],
                "Remove it, or set scale_rewards to false.",
            )
        for name in ("sample", "train", "reinforce"):
            if "trust_remote_code" in getattr(self, name):
                raise_input_error(
                    f"{name}: trust_remote_code",
                    "one for all steps, which load the same models",
                    Verbatim(f"one for {name} alone"),
                    "Set it at the top.",
                )

    @property
    def shared(self) -> dict[str, Any]:
        """What passes down."""
        return {"seed": self.seed, "max_length": self.max_length, "trust_remote_code": self.trust_remote_code}


@dataclass
class SharedInputs:
    """What all rounds share: the SFT policy, the pairs, prompts to sample and optimise on, prompts to measure on."""

    policy: str
    pairs: str
    prompts: str
    evaluation: str
    responses: SampleConfig  # of the SFT policy to the prompts to measure on
    gold: SyntheticConfig | None = None


@dataclass
class Round:
    """The configurations of one arm's round, all built, and so checked, before the first step of any starts."""

    samples: SampleConfig | None  # None in a plain arm
    train: TrainConfig
    before: PolicyMetricsConfig
    reinforce: RlConfig
    responses: SampleConfig
    after: PolicyMetricsConfig


def iterate(config: IterateConfig) -> Path:
    """Take every step that is not finished yet; print the rounds and write them into `rounds.json`, the path returned.

    A killed run goes on by the same call: a finished step is known by its record, the trainings by their checkpoints.
    """
    if under_launcher():
        raise_input_error(
            "iterate",
            "one process",
            Verbatim("a launcher's rank"),
            "Set train.processes and reinforce.processes; the steps start what they need.",
        )
    world = plan_inputs(config)
    plans = {arm: plan_variant(config, world, arm) for arm in config.arms}
    prepare_inputs(config, world)
    rounds = {arm: run_rounds(plan, config.scale_rewards) for arm, plan in plans.items()}
    path = Path(config.output_dir) / ROUNDS
    write_json(path, {"key": ROUNDS, "rounds": rounds})
    print(format_rounds(rounds))
    return path


def plan_inputs(config: IterateConfig) -> SharedInputs:
    """Where everything lies that all rounds share."""
    folder = Path(config.output_dir)
    gold, policy, pairs, evaluation = None, config.model_name_or_path, config.data, config.evaluation_prompts or GOLD
    if GOLD in (policy, pairs):
        gold = build_section(SyntheticConfig, config.gold, {"seed": config.seed}, "gold", output_dir=str(folder / GOLD))
        policy = str(folder / GOLD / BASE_MODEL) if policy == GOLD else policy
        pairs = str(folder / "pairs") if pairs == GOLD else pairs
    if evaluation == GOLD:
        evaluation = str(folder / "evaluation" / EVALUATION)
    responses = plan_responses(config, policy, evaluation, folder / "sft")
    prompts = config.prompts or (pairs if Path(pairs).is_file() else str(Path(pairs) / "train.parquet"))
    return SharedInputs(policy, pairs, prompts, evaluation, responses, gold)


def plan_responses(config: IterateConfig, policy: str, prompts: str, output_dir: Path) -> SampleConfig:
    """The sampling of those of a policy's responses that are measured: as `sample` says, at temperature 1."""
    kept = ("samples", "max_new_tokens", "max_tokens_per_batch")
    own = {name: value for name, value in config.sample.items() if name in kept}
    return build_section(
        SampleConfig, own, {**config.shared, "seed": derive_seed(config.seed, "evaluation")}, "sample",
        data=prompts, model_name_or_path=policy, output_dir=str(output_dir), temperature=1.0, top_p=1.0,
    )


def plan_variant(config: IterateConfig, world: SharedInputs, arm: str) -> list[Round]:
    """All rounds of an arm, each of which goes on from the policy of the one before."""
    rounds: list[Round] = []
    policy, responses = world.policy, world.responses
    for turn in range(1, config.rounds + 1):
        folder = Path(config.output_dir) / arm / f"round-{turn}"
        shared = {**config.shared, "seed": derive_seed(config.seed, "round", turn)}
        samples, reward_model, meta = None, str(folder.parent / "reward_model"), {"meta_data": None}
        if arm == META:
            samples = build_section(
                SampleConfig, config.sample, shared, "sample",
                data=world.prompts, model_name_or_path=policy, output_dir=str(folder / "samples"),
            )
            reward_model = str(folder / "reward_model")
            meta = plan_meta(config.meta, str(folder / "samples" / SAMPLES))
        start = config.reward_model or world.policy
        next_policy = str(folder / "policy")
        next_responses = plan_responses(config, next_policy, world.evaluation, folder / "responses")
        before, after = (
            build_section(
                PolicyMetricsConfig, {}, shared, "measure",
                samples=drawn.output_dir, policy=drawn.model_name_or_path, reward_model=reward_model,
                reference_samples=world.responses.output_dir, reference=world.policy, output_dir=str(folder / name),
            )
            for name, drawn in (("before", responses), ("after", next_responses))
        )
        rounds.append(Round(
            samples=samples,
            train=build_section(
                TrainConfig, config.train, config.shared, "train",  # the seed, and so the pairs' order, of every round
                data=world.pairs, model_name_or_path=start, output_dir=reward_model, **meta,
            ),
            before=before,
            reinforce=build_section(
                RlConfig, config.reinforce, shared, "reinforce",
                data=world.prompts, model_name_or_path=policy, reference=world.policy, reward_model=reward_model,
                output_dir=next_policy,
            ),
            responses=next_responses,
            after=after,
        ))
        policy, responses = next_policy, next_responses
    return rounds


def prepare_inputs(config: IterateConfig, world: SharedInputs) -> None:
    """Make what there is none of: the gold world, its pairs, prompts to measure on, and the SFT policy's responses."""
    folder = Path(config.output_dir)
    if config.data != GOLD:
        split_path(config.data, "train")
    if world.gold is not None:
        gold = synthetic(world.gold)
        if config.data == GOLD:
            train_pairs, validation, test = (str(gold / f"{split}.jsonl") for split in ("train", "validation", "test"))
            read(ReadConfig(data=train_pairs, validation=validation, test=test, output_dir=world.pairs))
    if (config.evaluation_prompts or GOLD) == GOLD:
        settings = {"evaluation": config.evaluation, "seed": config.seed}
        with open_stage(folder / "evaluation", "prompts", settings, {}) as stage:
            if not stage.done:
                rows = draw_prompts("in_distribution", config.evaluation, seed=config.seed)
                (stage.directory / EVALUATION).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    find_files(world.prompts)
    sample(world.responses)


def run_rounds(plan: list[Round], scale_rewards: bool) -> list[dict[str, Any]]:
    """The figures of an arm's rounds; the first ones are those of the SFT policy, under the first reward model."""
    figures: list[dict[str, Any]] = []
    for one in plan:
        if one.samples is not None:
            sample(one.samples)
        train(one.train)
        before = measure_policy(one.before)
        scale = (before["spread"] or 1.0) if scale_rewards else one.reinforce.reward_scale
        rl(dataclasses.replace(one.reinforce, reward_scale=scale))
        sample(one.responses)
        after = measure_policy(one.after)
        if not figures:
            figures.append(before)
        figures.append({**after, "accuracy_before": before.get("accuracy"), "spread_before": before["spread"]})
    return figures


def format_rounds(rounds: Mapping[str, list[dict[str, Any]]]) -> str:
    """A table of every arm's rounds; round 0 is the SFT policy."""
    lines = [[f"{arm}, round {place}", *(number(figures.get(name)) for name in COLUMNS)]
             for arm, own in rounds.items() for place, figures in enumerate(own)]
    return align(["arm", *COLUMNS], lines)


@dataclass(kw_only=True)
class MetaRMSettings:
    """The keys of `rmkit train` that are MetaRM's alone."""

    meta_data: str
    meta_learning_rate: float
    meta_batch_size: int | None = None
    meta_steps: int = 1


def plan_meta(settings: dict[str, Any], samples: str) -> dict[str, Any]:
    """What the section adds to a training, with the file of samples that the run gives it.

    Raises `InputError` for keys of the training's others, which would set apart more than the ascent.
    """
    return as_dict(build_section(MetaRMSettings, settings, {}, "meta", meta_data=samples))
