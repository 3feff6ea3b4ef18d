"""Bradley-Terry ratings beside scikit-learn for speed, and position weights and bias measures beside a known truth.

    python -m benchmarks.judges.ratings [--seeds 5] [--work runs/ratings]

Speed: ratings of 20,000 prompts with 11 judgments each, in one call, and by a loop of LogisticRegression fits; both
sides alternate, in processor time. The rest is simulated: judges with known biases. Finished parts are kept in --work.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, write_results
from benchmarks.shared.statistics import summarise_nested
from rmkit.core.seeds import derive_seed
from rmkit.metrics import (
    PositionWeights, bradley_terry, length_bias, position_bias, position_weights, prompt_correlation, ratio_interval,
    win_matrix,
)

PROMPTS = 20_000  # of the speed measurement
RIDGE = 0.01
JUDGMENTS = 11
FIRST = 0.7  # simulated judges prefer the response shown first this often
LONGER = 0.65  # and the longer response this often
ROUNDS = 10
BIASES = {"leans to the first": True, "takes the first unread": False}  # judge -> whether its bias is additive
JUDGES = 200  # simulated for the coverage of the intervals
UNWEIGHTED = PositionWeights(np.array(0.5), np.array(0.5))
Floats = NDArray[np.float64]


def draw_verdicts(prompts: int, generator: np.random.Generator, *, additive: bool = True) -> tuple[Floats, Floats]:
    """Verdicts [prompt, first, second] of which the first wins 70 %, and the true quality [prompt, judgment].

    The bias towards the first is constant in logits if `additive`; otherwise the judge takes the first in 40 % of the
    comparisons without reading.
    """
    truth = generator.normal(0, 1, (prompts, JUDGMENTS))
    gaps = truth[:, :, None] - truth[:, None, :]
    other = ~np.eye(JUDGMENTS, dtype=bool)
    bias = bisect(lambda logit: expit(gaps[:, other] + logit).mean() - FIRST, 0, 10, xtol=1e-14)
    unread = 2 * FIRST - 1
    probability = expit(gaps + bias) if additive else unread + (1 - unread) * expit(gaps)
    verdicts = np.where(generator.random(gaps.shape) < probability, 1.0, -1.0)
    verdicts[:, ~other] = np.nan
    return verdicts, truth


def fit_logistic(outcomes: NDArray[Any], features: Any, solver: str, **settings: Any) -> Floats:
    """Coefficients by scikit-learn with the ridge of `bradley_terry`."""
    model = LogisticRegression(C=1 / RIDGE, fit_intercept=False, solver=solver, tol=1e-10, max_iter=1000)
    return np.asarray(model.fit(features, outcomes, **settings).coef_[0])


def measure_speed() -> dict[str, Any]:
    """Seconds and ratios of both sides on the same comparisons, medians over rounds."""
    verdicts, _ = draw_verdicts(PROMPTS, np.random.default_rng(0))
    wins = win_matrix(verdicts, position_weights(verdicts))
    winner, loser = np.nonzero(~np.eye(JUDGMENTS, dtype=bool))
    signs = np.eye(JUDGMENTS)[winner] - np.eye(JUDGMENTS)[loser]
    rows, outcomes = np.concatenate([signs, -signs]), np.repeat([1, 0], len(winner))
    seconds, loop_seconds = [], []
    largest = 0.0
    for sample in tqdm(np.array_split(np.arange(PROMPTS), ROUNDS), desc="Speed", unit="round"):
        start = time.process_time()
        ratings = bradley_terry(wins, ridge=RIDGE).ratings
        middle = time.process_time()
        loop = np.stack([
            fit_logistic(outcomes, rows, "newton-cholesky", sample_weight=np.tile(wins[prompt][winner, loser], 2) / 2)
            for prompt in sample
        ])
        seconds.append(middle - start)
        loop_seconds.append((time.process_time() - middle) / len(sample) * PROMPTS)
        largest = max(largest, float(np.abs(loop - ratings[sample]).max()))
    return {
        "prompts": PROMPTS,
        "seconds": statistics.median(seconds),
        "scikit_learn_seconds": statistics.median(loop_seconds),
        "ratio": statistics.median(theirs / ours for ours, theirs in zip(seconds, loop_seconds, strict=True)),
        "largest_difference": largest,
    }


def measure_order(seed: int, additive: bool) -> dict[str, dict[str, float]]:
    """Spearman's correlation with the truth, mean over 1,000 prompts, by schedule of comparisons and rating method."""
    generator = np.random.default_rng(derive_seed(seed, "order"))
    verdicts, truth = draw_verdicts(1000, generator, additive=additive)
    upper = np.triu(np.ones((JUDGMENTS, JUDGMENTS), dtype=bool), 1)
    coin = generator.random(verdicts.shape) < 0.5
    schedules = {
        "both orders": np.ones_like(coin),
        "both orders, 30 % unparsed": generator.random(verdicts.shape) >= 0.3,
        "one order, at random": np.where(upper, coin, ~coin.swapaxes(1, 2)),
        "one order, the same first in all its pairs": np.broadcast_to(upper, coin.shape),
    }
    correlations = {}
    for name, asked in schedules.items():
        given = np.where(asked, verdicts, np.nan)
        methods = {
            "unweighted": bradley_terry(win_matrix(given, UNWEIGHTED), ridge=RIDGE).ratings,
            "weighted": bradley_terry(win_matrix(given, position_weights(given)), ridge=RIDGE).ratings,
            "position term": fit_position_term(given),
        }
        correlations[name] = {  # rounded, so that equal ratings stay ties in spite of rounding errors
            method: float(prompt_correlation(ratings.round(6), truth).mean or 0) for method, ratings in methods.items()
        }
    return correlations


def fit_position_term(verdicts: Floats) -> Floats:
    """Ratings [prompt, judgment] by scikit-learn with one coefficient for the first position, shared by all prompts."""
    prompt, first, second = np.nonzero(~np.isnan(verdicts))
    size, count = verdicts.shape[0] * JUDGMENTS, len(prompt)
    columns = np.concatenate([prompt * JUDGMENTS + first, prompt * JUDGMENTS + second, np.full(count, size)])
    cells = np.repeat([1.0, -1.0, 1.0], count), (np.tile(np.arange(count), 3), columns)
    features = csr_array(cells, shape=(count, size + 1))
    return fit_logistic(verdicts[prompt, first, second] > 0, features, "newton-cg")[:-1].reshape(-1, JUDGMENTS)


def measure_biases(seed: int) -> dict[str, dict[str, float]]:
    """Measured position and length bias, with intervals, of a judge whose biases are known.

    It takes the first response in 40 % of the comparisons, otherwise the longer or the better one, each half the time:
    the first wins 70 % and the longer, which is independent of quality, 65 %.
    """
    generator = np.random.default_rng(derive_seed(seed, "biases"))
    quality, difference = generator.normal(0, 1, 1000), generator.normal(0, 100, 1000).round() + 0.5

    def decide(sign: int) -> Floats:
        """Verdicts for the response shown first, in the pair's order (sign 1) or the other one (-1)."""
        better = np.where(generator.random(1000) < expit(sign * quality), 1.0, -1.0)
        biased = np.where(generator.random(1000) < (LONGER - 0.5) / (1 - FIRST), np.sign(sign * difference), better)
        return np.where(generator.random(1000) < 2 * FIRST - 1, 1.0, biased)

    original, swapped = decide(1), decide(-1)
    first, pair = np.concatenate([original, swapped]), np.concatenate([original, -swapped])
    differences, groups = np.tile(difference, 2), np.tile(np.arange(1000), 2)
    biases = {
        "position": (position_bias(original, swapped).first, first == 1),
        "length": (length_bias(pair, differences).longer, pair == np.sign(differences)),
    }
    return {name: {"measured": float(value or 0),
                   **ratio_interval(hits, np.ones(2000), groups, seed=seed)._asdict()}
            for name, (value, hits) in biases.items()}


def main() -> None:
    """Compute what is missing and write benchmarks/results/ratings.json."""
    options = make_parser(__doc__, "ratings", seeds=5).parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    seeds = range(options.seeds)

    def kept(name: str, compute: Callable[[], Any]) -> Any:
        return keep(options.work / f"{name.replace(' ', '_')}.json", compute)

    orders = {name: [kept(f"order-{name}-{seed}", partial(measure_order, seed, additive)) for seed in seeds]
              for name, additive in BIASES.items()}
    judges = [kept(f"biases-{seed}", partial(measure_biases, seed)) for seed in tqdm(range(JUDGES), desc="Biases")]
    figures = {
        "speed": kept("speed", measure_speed),
        "order": {judge: summarise_nested(by_seed) for judge, by_seed in orders.items()},
        "biases": {name: {
            "planted": truth,
            "first_judges": [judge[name] for judge in judges[:options.seeds]],
            "covered": statistics.fmean(judge[name]["low"] <= truth <= judge[name]["high"] for judge in judges),
            "judges": len(judges),
        } for name, truth in (("position", FIRST), ("length", LONGER))},
    }
    print(write_results("ratings", figures, seeds=seeds))


if __name__ == "__main__":
    main()
