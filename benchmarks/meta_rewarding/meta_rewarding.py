"""The meta-rewarding loop where the truth is known: a tiny language model is actor, judge and meta-judge.

    python -m benchmarks.meta_rewarding.meta_rewarding [--seeds 3] [--arms meta self reward] [--work runs/meta_rewarding]

Each seed has a gold world and a model that was taught in it to answer (as people of mixed ability do), to judge and
to meta-judge (with a stated share of errors); see `rmkit synthetic`. From it on, the arms: `meta`,
Meta-Rewarding, with judge pairs in the first two of four iterations; `self`, the same without them, Self-Rewarding with
length control; `reward`, in which an ensemble of reward models judges, trained on the world's labelled pairs and, by
MetaRM, on the policy's samples. All hold the length of the first iteration's responses. Win rates are those of the gold
reward, against the model that the loop began with, on prompts that it never trains on.

The settings are those of recipes/meta_rewarding_synthetic.yaml, found with a seed of its own, 100, which is not reported.
What is finished is kept in --work, step by step, and not computed again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import write_results
from benchmarks.shared.statistics import Cells, estimate_lead, summarise_arms
from rmkit.commands.read import ReadConfig, read
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.core.stage import read_record
from rmkit.meta_rewarding import MetaRewardConfig, meta_reward
from rmkit.meta_rewarding.config import MetaJudgingConfig
from rmkit.meta_rewarding.drift import meta_judge_bias
from rmkit.meta_rewarding.meta_judging import read_meta_judgments, run_meta_judging, stack_verdicts

RECIPE = Path(__file__).parents[2] / "recipes" / "meta_rewarding_synthetic.yaml"
ARMS: dict[str, dict[str, Any]] = {
    "meta": {}, "self": {"judge_pairs": 0}, "reward": {"judge": "reward_model", "judge_pairs": 0},
}
NO_STOP = {rule: {"warn": None, "stop": None} for rule in (
    "top", "position", "length", "length_step", "distinct", "agreement",
)}  # all iterations are to be seen
FIGURES = ("win_rate", "win_rate_lc", "gold", "length", "distinct", "kl", "spearman_language", "agreement_language",
           "spearman_reward", "agreement_reward", "score_language", "score_reward", "top", "first", "higher")
FAST: dict[str, Any] = {
    "synthetic": {"train": 48, "validation": 16, "test": 8, "prompts": 60, "evaluation_prompts": 8,
                  "demonstrations": 300, "judgments": 2000, "verdicts": 900, "hidden": 64, "layers": 2},
    "iterations": 2, "judge_pairs": 1, "prompts_per_iteration": 12, "sample": {"samples": 3, "max_new_tokens": 60},
    "judge_llm": {"samples": 3, "max_new_tokens": 60}, "meta_judge": {"max_judgments": 2, "max_new_tokens": 80},
    "judge_rm": {"train": {"max_steps": 4}, "continue_training": {"max_steps": 2}}, "dpo": {"num_train_epochs": 1},
}


def read_settings() -> dict[str, Any]:
    """The recipe's, without what it says of places."""
    content: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    places = ("output_dir", "model_name_or_path", "prompts", "evaluation_prompts", "seed")
    return {name: value for name, value in content.items() if name not in places}


def prepare(place: Path, sizes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A seed's world and model, shared by its arms: what a `MetaRewardConfig` takes in place of "synthetic"."""
    folder = synthetic(SyntheticConfig(output_dir=str(place / "synthetic"), seed=seed, min_quality=0.0, **sizes))
    files = {"data": "train", "validation": "validation", "test": "test"}
    read(ReadConfig(
        output_dir=str(place / "labelled"), **{role: str(folder / f"{split}.jsonl") for role, split in files.items()}
    ))
    return {"model_name_or_path": str(folder / BASE_MODEL), "prompts": str(folder / "prompts.jsonl"),
            "evaluation_prompts": str(folder / "evaluation.jsonl")}


def change(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes, in groups of them too."""
    return {**settings, **{name: change(settings[name], own) if isinstance(own, dict) else own
                           for name, own in changes.items()}}


def run_arm(place: Path, arm: str, seed: int, **changes: Any) -> list[dict[str, Any]]:
    """The figures of an arm's policies, the first one's at place 0; `changes` are of the recipe's settings."""
    settings = {**change(read_settings(), changes), **ARMS[arm], "drift": NO_STOP}
    settings["judge_rm"] = {**settings["judge_rm"], "data": str(place / "labelled")}
    world = prepare(place, settings.pop("synthetic"), seed)
    config = MetaRewardConfig(output_dir=str(place / arm), seed=seed, **world, **settings)
    content = json.loads((meta_reward(config) / "report.json").read_text(encoding="utf-8"))
    figures: list[dict[str, Any]] = [
        {name.replace("_llm", "_language").replace("_reward_model", "_reward"): value for name, value in own.items()}
        for own in content["metrics"]
    ]
    for own, iteration in zip(figures, content["iterations"], strict=False):  # the last policy begins none
        own["top"] = iteration["drift"]["top"]
    if config.judge == "llm":
        for number, own in enumerate(figures):
            own.update(measure_meta_judge(place / arm, number, config))
    return figures


def measure_meta_judge(folder: Path, number: int, config: MetaRewardConfig) -> dict[str, Any]:
    """A policy as the meta-judge of its judgments on the first one's responses: `first` and `higher` of the drift."""
    judgments = folder / "evaluation" / f"policy-{number}" / "judgments"
    record = read_record(judgments)
    assert record is not None
    rows = read_meta_judgments(run_meta_judging(MetaJudgingConfig(**{
        **record["config"]["judge"], "samples": 1, "data": str(judgments),
        "output_dir": str(judgments.parent / "meta_judgments"), "max_judgments": 3, "seed": config.seed,
    })))
    first, higher = meta_judge_bias(*stack_verdicts(rows))
    return {"first": first, "higher": higher}


def gather(cells: Cells) -> dict[str, Any]:
    """Over seeds, of `cells` [seed][arm][policy]: every figure, and how far `meta` and `reward` are ahead of others."""
    ahead = {
        f"{arm} over {other}": estimate_lead(cells, arm, other, -1, "win_rate")
        for arm, other in (("meta", "self"), ("reward", "meta")) if arm in cells[0] and other in cells[0]
    }
    return {"by_arm": summarise_arms(cells, FIGURES), "ahead": ahead}


def study(work: Path, seeds: Sequence[int], arms: Sequence[str], **changes: Any) -> dict[str, Any]:
    """All figures, over seeds; `changes` are of the recipe's settings."""
    cells = [
        {arm: run_arm(work / f"seed-{seed}", arm, seed, **changes) for arm in arms}
        for seed in tqdm(seeds, desc="Seeds", unit="seed")
    ]
    return {"settings": {**change(read_settings(), changes), "arms": ARMS}, **gather(cells)}


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature: one seed of a small school, two iterations."""
    return study(folder, [0], list(ARMS), **FAST)


def main() -> None:
    """Compute what is missing and write benchmarks/results/meta_rewarding.json."""
    parser = make_parser(__doc__, "meta_rewarding", seeds=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    figures = study(options.work, seeds, options.arms)
    print(write_results("meta_rewarding", figures, seeds=seeds, packages=["trl"]))


if __name__ == "__main__":
    main()
