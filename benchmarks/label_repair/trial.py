"""One trial of label repair on frozen features: voters, every recipe, the baselines, all on the same pairs.

Amounts (share, alpha, scale, epochs) and the best recipe are chosen by accuracy on noisy validation pairs; the test
pairs are clean and only reported. Final reward models are heads under the Bradley-Terry loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from scipy.special import expit
from tqdm import tqdm

from benchmarks.shared.statistics import summarise_nested
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.heads import Heads, cross_val_rewards, train_heads
from rmkit.metrics.accuracy import pair_accuracy
from rmkit.metrics.correlation import auroc
from rmkit.preferences import estimate_noise_rate, preference_strength, repair_labels

SHARES = (0.1, 0.2, 0.3)
SCALES = (1.0, 0.25)  # of the margin: voters and final model need not share their reward unit
VOTERS: dict[str, Any] = {"members": 10, "loss": "symmetric"}
# Three runs of one reward model, never averaged.
FINAL: dict[str, Any] = {"members": 3, "loss": "bradley_terry", "epochs": 5}
REPAIR_KEYS = ("recipe", "fraction", "label_smoothing", "margin", "margin_scale")  # arguments of `repair_labels`
BASELINES = ("plain BT", "BT, early stopped", "symmetric loss", "cleanlab, dropped")

Sides = NDArray[np.float32]  # [side, pair, feature]


@dataclass(frozen=True)
class Trial:
    """Features [side, pair, feature] of train and validation pairs as labelled, noise included, and of clean tests.

    `groups` [pair] names what must not be torn apart in cross-fitting, `is_flipped` [pair] the train labels
    flipped on purpose.
    """

    train: Sides
    validation: Sides
    tests: Mapping[str, Sides]
    groups: NDArray[Any]
    is_flipped: NDArray[np.bool_]


def swap(sides: Sides, flips: NDArray[np.bool_]) -> Sides:
    """Sides with chosen and rejected exchanged where `flips`."""
    return np.where(flips[None, :, None], sides[::-1], sides)


def run_trial(trial: Trial, seed: int) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Vote, estimate the noise, train on every repair and on the baselines, and test.

    Returns the figures, and the strength [pair] that each way of voting gave the train pairs.
    """
    strength = take_votes(trial, seed)
    voting = {way: auroc(-mean, trial.is_flipped) if trial.is_flipped.any() else None for way, mean in strength.items()}
    estimate = estimate_noise_rate(strength["symmetric, cross-fitted"], groups=trial.groups, seed=seed)

    def measure(sides: Sides, config: dict[str, Any] = FINAL, **labels: Any) -> dict[str, Any]:
        model = train_heads(*sides, **config, seed=derive_seed(seed, "final"), **labels)
        return {
            "validation": mean_accuracy(model, trial.validation),
            "tests": {name: mean_accuracy(model, test) for name, test in trial.tests.items()},
        }

    plain = measure(trial.train)
    early = [{"epochs": epochs, **measure(trial.train, {**FINAL, "epochs": epochs})} for epochs in (1, 2)]
    issues = find_issues(strength["bradley_terry, cross-fitted"], seed)
    lines: dict[str, list[dict[str, Any]]] = {
        "plain BT": [plain],
        "BT, early stopped": [{"epochs": FINAL["epochs"], **plain}, *early],
        "symmetric loss": [measure(trial.train, {**FINAL, "loss": "symmetric"})],
        "cleanlab, dropped": [{"fraction": float(issues.mean()), **measure(trial.train, keep=~issues)}],
    }
    for line, way, arguments in tqdm(list_repairs(estimate.rate), desc="Recipes", unit="recipe", leave=False):
        sides, labels = apply_repair(trial.train, strength[way], arguments)
        lines.setdefault(line, []).append({**arguments, **measure(sides, **labels)})
    chosen = {line: max(candidates, key=lambda each: each["validation"]) for line, candidates in lines.items()}
    recipes = {line: pick for line, pick in chosen.items() if line not in BASELINES}
    best = max(recipes, key=lambda line: recipes[line]["validation"])
    chosen["best recipe"] = {"line": best, **recipes[best]}
    return {"voting": voting, "estimated_rate": estimate._asdict(), "lines": chosen}, strength


def take_votes(trial: Trial, seed: int) -> dict[str, NDArray[np.float64]]:
    """Mean gap [pair] of the train pairs, in-sample and cross-fitted, under either loss of the voters."""
    strength = {}
    for loss in ("symmetric", "bradley_terry"):
        config = {**VOTERS, "loss": loss}
        voters = train_heads(*trial.train, **config, seed=seed)
        rewards = {
            "in-sample": tuple(voters.score(side) for side in trial.train),
            "cross-fitted": cross_val_rewards(*trial.train, **config, groups=trial.groups, seed=seed),
        }
        for way, sides in rewards.items():
            strength[f"{loss}, {way}"] = preference_strength(*sides).mean
    return strength


def apply_repair(
    sides: Sides, strength: NDArray[np.float64], arguments: Mapping[str, Any]
) -> tuple[Sides, dict[str, Any]]:
    """Sides with repaired labels, and the target, margin and keep [pair] that `train_heads` takes."""
    fixed = repair_labels(strength, **arguments)
    return swap(sides, fixed.swapped), {"target": fixed.target, "margin": fixed.margin, "keep": fixed.keep}


def train_repaired(sides: Sides, strength: NDArray[np.float64], pick: Mapping[str, Any], seed: int) -> Heads:
    """The final model on labels repaired by `strength` with the arguments that `pick` names."""
    repaired, labels = apply_repair(sides, strength, {key: pick[key] for key in REPAIR_KEYS if key in pick})
    return train_heads(*repaired, **FINAL, seed=derive_seed(seed, "final"), **labels)


def mean_accuracy(model: Any, sides: Sides) -> float:
    """Mean accuracy of the members, each a reward model by itself."""
    gaps = model.score(sides[0]) - model.score(sides[1])
    return float(np.mean([pair_accuracy(member).accuracy for member in gaps]))


def list_repairs(rate: float) -> list[tuple[str, str, dict[str, Any]]]:
    """Every repair: its line in the table, the way of voting it uses, and the arguments of `repair_labels`.

    The estimated `rate` is tried beside the fixed amounts.
    """
    shares = [{"fraction": share} for share in (*SHARES, rate)]
    alphas = [{"label_smoothing": alpha} for alpha in (0.2, rate)]
    margins = [{"margin": "scaled", "margin_scale": scale} for scale in SCALES]
    amounts: dict[str, list[dict[str, Any]]] = {
        "flip": shares, "smooth": alphas, "soft": [{}], "drop": shares, "margin": margins,
        "flip+margin": [{**share, **margin} for share in shares for margin in margins],
        "soft+margin": [{**alpha, **margin} for alpha in alphas for margin in margins],
    }
    in_sample = [(recipe, "symmetric, in-sample", {"recipe": recipe, **each})
                 for recipe in amounts for each in amounts[recipe]]
    return in_sample + [(f"{recipe}, cross-fitted votes", "symmetric, cross-fitted",
                         {"recipe": recipe, "fraction": rate}) for recipe in ("flip", "drop")]


def find_issues(gaps: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Pairs whose label cleanlab doubts, from out-of-sample gaps [pair] under Bradley-Terry.

    The sides change places at random first, or all labels would be of one class.
    """
    second = np.random.default_rng(derive_seed(seed, "cleanlab")).random(len(gaps)) < 0.5
    chosen_first = expit(np.where(second, -gaps, gaps))
    return find_label_issues(
        labels=np.where(second, 0, 1), pred_probs=np.stack([1 - chosen_first, chosen_first], axis=1), n_jobs=1
    )


def gather(trials: Sequence[Mapping[str, Any]], clean: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over seeds of the figures of trials at one rate; `clean` are those without flipped labels."""
    plain = [trial["lines"]["plain BT"]["tests"] for trial in clean]
    accuracy = [{line: pick["tests"] for line, pick in trial["lines"].items()} for trial in trials]
    shares = [{line: {test: value / best[test] for test, value in tests.items()} for line, tests in cell.items()}
              for cell, best in zip(accuracy, plain, strict=True)]
    return {
        "accuracy": summarise_nested(accuracy),
        "share_of_clean": summarise_nested(shares),
        "auroc": summarise_nested([{way: value for way, value in trial["voting"].items() if value is not None}
                                   for trial in trials]),
        "estimated_rate": summarise_nested([
            {end: trial["estimated_rate"][end] for end in ("rate", "low", "high")} for trial in trials]),
    }
