"""The meta-rewarding loop with known truth: a tiny language model is actor, judge and meta-judge.

    python -m benchmarks.meta_rewarding.meta_rewarding [--seeds 3] [--work FOLDER]

Each seed has synthetic data and a model trained on it to answer, to judge and to meta-judge, with a given share of
errors (see `rmkit synthetic`). The arms: `meta`, Meta-Rewarding, with judge pairs in the first two of four iterations;
`self`, Self-Rewarding with length control, without judge pairs; `reward`, with an ensemble of reward models as judge,
trained on labelled pairs and, by MetaRM, on the policy's samples. All hold the length of the first iteration's
responses. Win rates are those of the gold reward against the initial model, on held-out prompts.

The settings are those of recipes/meta_rewarding_synthetic.yaml, which were chosen on seed 100. Finished steps are kept
in --work.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from benchmarks.shared.cli import make_parser
from benchmarks.shared.pairs import read_synthetic
from benchmarks.shared.results import write_results
from benchmarks.shared.statistics import Cells, estimate_lead, summarise_arms
from rmkit.commands.synthetic import BASE_MODEL, SyntheticConfig, synthetic
from rmkit.core.stage import read_record
from rmkit.meta_rewarding import MetaRewardConfig, meta_reward
from rmkit.meta_rewarding.drift import meta_judge_bias
from rmkit.meta_rewarding.meta_judging import read_meta_judgments, run_meta_judging, stack_verdicts
from rmkit.meta_rewarding.step_config import MetaJudgingConfig

RECIPE = Path(__file__).parents[2] / "recipes" / "meta_rewarding_synthetic.yaml"
ARMS: dict[str, dict[str, Any]] = {
    "meta": {}, "self": {"judge_pairs": 0}, "reward": {"judge": "reward_model", "judge_pairs": 0},
}
RULES = ("top", "position", "length", "length_step", "distinct", "agreement")
NO_STOP = {rule: {"warn": None, "stop": None} for rule in RULES}  # every iteration runs
FIGURES = ("win_rate", "win_rate_lc", "gold", "length", "distinct", "kl", "spearman_language", "agreement_language",
           "spearman_reward", "agreement_reward", "score_language", "score_reward", "top", "first", "higher")
FAST: dict[str, Any] = {
    "synthetic": {"train": 48, "validation": 16, "test": 8, "prompts": 60, "evaluation_prompts": 8,
                  "demonstrations": 300, "judgments": 2000, "verdicts": 900, "hidden": 64, "layers": 2},
    "iterations": 2, "judge_pairs": 1, "prompts_per_iteration": 12, "sample": {"samples": 3, "max_new_tokens": 60},
    "judge_llm": {"samples": 3, "max_new_tokens": 60}, "meta_judge": {"max_judgments": 2, "max_new_tokens": 80},
    "judge_rm": {"train": {"max_steps": 4}, "continue_training": {"max_steps": 2}}, "dpo": {"num_train_epochs": 1},
}


def read_settings(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's settings without paths and seed, changed by `changes`."""
    recipe: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    for name in ("output_dir", "model_name_or_path", "prompts", "evaluation_prompts", "seed"):
        del recipe[name]
    return merge(recipe, changes)


def merge(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with changes."""
    return {**settings, **{name: merge(settings[name], value) if isinstance(value, dict) else value
                           for name, value in changes.items()}}


def run_arm(folder: Path, arm: str, seed: int, changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures of an arm's policies, the initial model first; data and initial model are the seed's."""
    settings = {**read_settings(changes), **ARMS[arm], "drift": NO_STOP}
    data = synthetic(SyntheticConfig(output_dir=str(folder / "synthetic"), seed=seed, min_quality=0.0,
                                     **settings.pop("synthetic")))
    read_synthetic(data, folder / "labelled")
    settings["judge_rm"] = {**settings["judge_rm"], "data": str(folder / "labelled")}
    config = MetaRewardConfig(
        output_dir=str(folder / arm), seed=seed, model_name_or_path=str(data / BASE_MODEL),
        prompts=str(data / "prompts.jsonl"), evaluation_prompts=str(data / "evaluation.jsonl"), **settings)
    report = json.loads((meta_reward(config) / "report.json").read_text(encoding="utf-8"))
    figures: list[dict[str, Any]] = [
        {name.replace("_llm", "_language").replace("_reward_model", "_reward"): value for name, value in policy.items()}
        for policy in report["metrics"]
    ]
    for policy, iteration in zip(figures, report["iterations"], strict=False):  # the last policy begins no iteration
        policy["top"] = iteration["drift"]["top"]
    if config.judge == "llm":
        for number, policy in enumerate(figures):
            policy.update(measure_meta_judge(folder / arm / "evaluation" / f"policy-{number}" / "judgments", seed))
    return figures


def measure_meta_judge(judgments: Path, seed: int) -> dict[str, Any]:
    """Biases of a policy as meta-judge of its judgments: how often the `first` and the `higher` score wins."""
    record = read_record(judgments)
    assert record is not None
    rows = read_meta_judgments(run_meta_judging(MetaJudgingConfig(**{
        **record["config"]["judge"], "samples": 1, "data": str(judgments),
        "output_dir": str(judgments.parent / "meta_judgments"), "max_judgments": 3, "seed": seed,
    })))
    first, higher = meta_judge_bias(*stack_verdicts(rows))
    return {"first": first, "higher": higher}


def summarise_cells(cells: Cells) -> dict[str, Any]:
    """All figures of `cells` [seed][arm][policy] over seeds, and the leads of `meta` and `reward` in final win rate."""
    ahead = {f"{arm} over {other}": estimate_lead(cells, arm, other, -1, "win_rate")
             for arm, other in (("meta", "self"), ("reward", "meta"))}
    return {"by_arm": summarise_arms(cells, FIGURES), "ahead": ahead}


def study(work: Path, seeds: Sequence[int], **changes: Any) -> dict[str, Any]:
    """All figures over seeds, with `changes` to the recipe's settings."""
    return summarise_cells([{arm: run_arm(work / f"seed-{seed}", arm, seed, changes) for arm in ARMS}
                            for seed in tqdm(seeds, desc="Seeds", unit="seed")])


def study_fast(folder: Path) -> dict[str, Any]:
    """The study with one seed, small data and two iterations."""
    return study(folder, [0], **FAST)


def main() -> None:
    """Compute what is missing and write benchmarks/results/meta_rewarding.json."""
    options = make_parser(__doc__, "meta_rewarding", seeds=3).parse_args()
    seeds = range(options.seeds)
    print(write_results("meta_rewarding", study(options.work, seeds), seeds=seeds, packages=["trl"]))


if __name__ == "__main__":
    main()
