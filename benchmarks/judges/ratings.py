"""Ratings against scikit-learn for speed, and against known truth: weighted battles and planted biases.

    python -m benchmarks.judges.ratings [--seeds 5] [--work runs/ratings]

Speed: Bradley-Terry of 20,000 prompts with 11 judgments, in one call, and as a loop of 20,000 LogisticRegression fits;
both sides in turns, in process CPU time. All else is simulated: judges whose biases are known. Finished parts are kept
in --work.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, summarise, write_results
from rmkit.core.seeds import derive_seed
from rmkit.metrics import (
    PositionWeights,
    bradley_terry,
    length_bias,
    position_bias,
    position_weights,
    prompt_correlation,
    ratio_interval,
    win_matrix,
)

RIDGE = 0.01
JUDGMENTS = 11
FIRST = 0.7  # planted: the one shown first wins so often
LONGER = 0.65  # planted: so often wins the longer one
TURNS = 10
LEANING = {"leans to the first": True, "takes the first unread": False}  # the judges whose ratings are compared
JUDGES = 200  # simulated, for the coverage of the biases' intervals
EVEN = PositionWeights(np.array(0.5), np.array(0.5))


def draw_verdicts(
    prompts: int, generator: np.random.Generator, *, leaning: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Verdicts [prompt, judgment, judgment] in both orders, first wins 70 %, and the truth [prompt, judgment].

    The judge either leans to the first by as many logits in every battle, or takes it unread in 40 % of them.
    """
    truth = generator.normal(0, 1, (prompts, JUDGMENTS))
    gaps = truth[:, :, None] - truth[:, None, :]
    place = find_place(gaps[:, ~np.eye(JUDGMENTS, dtype=bool)])
    unread = 2 * FIRST - 1
    first = expit(gaps + place) if leaning else unread + (1 - unread) * expit(gaps)
    drawn = np.where(generator.random(gaps.shape) < first, 1.0, -1.0)
    drawn[:, np.eye(JUDGMENTS, dtype=bool)] = np.nan
    return drawn, truth


def find_place(gaps: NDArray[np.float64]) -> float:
    """The position term in logits under which the first wins 70 % of battles between these gaps, by bisection."""
    low, high = 0.0, 10.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(gaps + middle).mean() < FIRST else (low, middle)
    return low


def measure_speed(prompts: int, show: Callable[..., Any]) -> dict[str, Any]:
    """Both sides on the same battles, in turns."""
    verdicts, _ = draw_verdicts(prompts, np.random.default_rng(0))
    battles = win_matrix(verdicts, position_weights(verdicts))
    winner, loser = np.nonzero(~np.eye(JUDGMENTS, dtype=bool))
    signs = np.zeros((len(winner), JUDGMENTS))
    signs[np.arange(len(winner)), winner], signs[np.arange(len(winner)), loser] = 1, -1
    rows, outcomes = np.concatenate([signs, -signs]), np.repeat([1, 0], len(winner))

    def fit_one(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        model = LogisticRegression(C=1 / RIDGE, fit_intercept=False, solver="newton-cholesky", tol=1e-10)
        weights = np.tile(matrix[winner, loser], 2) / 2
        return np.asarray(model.fit(rows, outcomes, sample_weight=weights).coef_[0])

    ours, theirs, walls = [], [], []
    apart = 0.0
    for turn in show(np.array_split(np.arange(prompts), TURNS), desc="Speed", unit="turn"):
        wall, start = time.perf_counter(), time.process_time()
        found = bradley_terry(battles, ridge=RIDGE).ratings
        ours.append(time.process_time() - start)
        walls.append(time.perf_counter() - wall)
        wall, start = time.perf_counter(), time.process_time()
        loop = np.stack([fit_one(battles[prompt]) for prompt in turn])
        theirs.append((time.process_time() - start) / len(turn) * prompts)
        walls.append((time.perf_counter() - wall) / len(turn) * prompts)
        apart = max(apart, float(np.abs(loop - found[turn]).max()))
    return {
        "prompts": prompts,
        "seconds": statistics.median(ours),
        "scikit_learn_seconds": statistics.median(theirs),
        "ratio": statistics.median(loop / call for call, loop in zip(ours, theirs, strict=True)),
        "wall_ratio": statistics.median(loop / call for call, loop in zip(walls[::2], walls[1::2], strict=True)),
        "largest_difference": apart,
    }


def measure_order(seed: int, leaning: bool) -> dict[str, dict[str, float]]:
    """Spearman's with the truth, mean over 1,000 prompts, of each way to rate, for each schedule."""
    generator = np.random.default_rng(derive_seed(seed, "order"))
    verdicts, truth = draw_verdicts(1000, generator, leaning=leaning)
    upper = np.triu(np.ones((JUDGMENTS, JUDGMENTS), dtype=bool), 1)
    coin = generator.random(verdicts.shape) < 0.5
    schedules = {
        "both orders": np.ones_like(coin),
        "both orders, 30 % unparsed": generator.random(verdicts.shape) >= 0.3,
        "one order, at random": np.where(upper, coin, ~coin.swapaxes(1, 2)),
        "one order, the same first in all its pairs": np.broadcast_to(upper, coin.shape),
    }
    found = {}
    for name, asked in schedules.items():
        seen = np.where(asked, verdicts, np.nan)
        ways = {
            "unweighted": bradley_terry(win_matrix(seen, EVEN), ridge=RIDGE).ratings,
            "weighted": bradley_terry(win_matrix(seen, position_weights(seen)), ridge=RIDGE).ratings,
            "position term": fit_position_term(seen),
        }
        found[name] = {  # rounded, so that equal ratings stay equal whatever the last digits of arithmetic
            way: float(prompt_correlation(ratings.round(6), truth).mean or 0) for way, ratings in ways.items()
        }
    return found


def fit_position_term(verdicts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratings [prompt, judgment] by scikit-learn, with a term for being shown first that all prompts share."""
    prompt, first, second = np.nonzero(~np.isnan(verdicts))
    size, battles = verdicts.shape[0] * JUDGMENTS, len(prompt)
    columns = np.concatenate([prompt * JUDGMENTS + first, prompt * JUDGMENTS + second, np.full(battles, size)])
    cells = np.repeat([1.0, -1.0, 1.0], battles), (np.tile(np.arange(battles), 3), columns)
    model = LogisticRegression(C=1 / RIDGE, fit_intercept=False, solver="newton-cg", tol=1e-10, max_iter=1000)
    model.fit(csr_array(cells, shape=(battles, size + 1)), verdicts[prompt, first, second] > 0)
    return np.asarray(model.coef_[0, :-1]).reshape(-1, JUDGMENTS)


def measure_biases(seed: int) -> dict[str, dict[str, float]]:
    """What is measured of a judge that takes the first 40 % of the time, else half the time the longer, or the better.

    So the first wins 70 %, and the longer 65 %: quality and length have nothing to do with each other.
    """
    generator = np.random.default_rng(derive_seed(seed, "biases"))
    quality, difference = generator.normal(0, 1, 1000), generator.normal(0, 100, 1000).round() + 0.5

    def decide(sign: int) -> NDArray[np.float64]:
        """Verdicts for the one shown first: that of the pair (sign 1), or the other one (sign -1)."""
        better = np.where(generator.random(1000) < expit(sign * quality), 1.0, -1.0)
        biased = np.where(generator.random(1000) < (LONGER - 0.5) / (1 - FIRST), np.sign(sign * difference), better)
        return np.where(generator.random(1000) < 2 * FIRST - 1, 1.0, biased)

    there, back = decide(1), decide(-1)
    both, groups = np.concatenate([there, back]), np.tile(np.arange(1000), 2)
    pair = np.concatenate([there, -back])
    apart = np.tile(difference, 2)
    found = {"position": position_bias(there, back).first, "length": length_bias(pair, apart).longer}
    hits = {"position": both == 1, "length": pair == np.sign(apart)}
    return {name: {"measured": float(found[name] or 0), **ratio_interval(
        hits[name], np.ones(2000), groups, seed=seed)._asdict()} for name in found}


def main() -> None:
    """Compute what is missing and write benchmarks/results/ratings.json."""
    parser = make_parser(__doc__, "ratings", seeds=5)
    parser.add_argument("--prompts", type=int, default=20000, help="prompts whose rating is timed")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    seeds = list(range(options.seeds))
    speed = keep(options.work / f"speed-{options.prompts}.json", lambda: measure_speed(options.prompts, tqdm))
    order = {name: [keep(options.work / f"order-{name.replace(' ', '_')}-{seed}.json",
                         lambda seed=seed, leaning=leaning: measure_order(seed, leaning)) for seed in seeds]
             for name, leaning in tqdm(LEANING.items(), desc="Order", unit="judge")}
    judges = keep(options.work / "biases.json", lambda: [measure_biases(seed) for seed in tqdm(range(JUDGES))])
    planted = {"position": FIRST, "length": LONGER}
    figures = {
        "speed": speed,
        "ridge": RIDGE,
        "order": {judge: {schedule: {way: summarise([found[schedule][way] for found in each]) for way in ways}
                          for schedule, ways in each[0].items()} for judge, each in order.items()},
        "biases": {name: {
            "planted": true,
            "first_judges": [judge[name] for judge in judges[:options.seeds]],
            "covered": statistics.fmean(judge[name]["low"] <= true <= judge[name]["high"] for judge in judges),
            "judges": len(judges),
        } for name, true in planted.items()},
    }
    print(json.dumps({name: value for name, value in figures.items() if name != "biases"}, indent=1))
    print(write_results("ratings", figures, seeds=seeds))


if __name__ == "__main__":
    main()
