"""Policies compared by a judge: win rates, plain and length-controlled, arena scores, and mean scores by turn."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics import bradley_terry, ratio_interval, wins_from_list
from rmkit.metrics.length_control import FOLDS, alpaca_rate, length_controlled_rate
from rmkit.metrics.significance import QUANTILES, cluster_bootstrap

RIDGE = 0.01


class PolicyComparisons(NamedTuple):
    """Pairs of responses to one prompt by two policies, and a judge's preferences, all over [pair].

    sides: [pair, 2], indices of the policies. preferences: [pair, order], how far the first of the two is preferred, in
    [0, 1], in either order; NaN for no parsed answer; one order for a judge that scores. lengths: [pair, 2],
    characters. prompts: names, which the bootstrap draws. difficulty: of the prompts, or None.
    """

    sides: NDArray[np.integer[Any]]
    preferences: NDArray[np.float64]
    lengths: NDArray[np.float64]
    prompts: NDArray[Any]
    difficulty: NDArray[np.float64] | None = None


def evaluate_policies(
    comparisons: PolicyComparisons, names: Sequence[str], *, baseline: str, seed: int = 0, n_bootstrap: int = 1000
) -> dict[str, Any]:
    """Each policy compared to `baseline`, by name, ready for JSON; undefined values are None.

        pairs, wins, ties, losses, missing   of the pairs with the baseline; missing ones have no preference
        win_rate, low, high                  mean preference over its pairs, ties half, orders averaged; 95 %
        length_controlled                    as `length_controlled_rate`, and `alpaca`, as `alpaca_rate`
        length, baseline_length              mean characters in these pairs
        arena                                score, low, high: as `arena_scores`, from all comparisons

    Raises `InputError` for arrays that do not fit together, values out of range and an unknown baseline.
    """
    if baseline not in names or len(set(names)) < len(names):
        raise_input_error("baseline", f"one of the different names {', '.join(names)}", baseline, "Name a policy.")
    base = list(names).index(baseline)
    arena = arena_scores(comparisons, policies=len(names), baseline=base, seed=seed, n_bootstrap=n_bootstrap)
    report = {}
    for policy, name in enumerate(names):
        scores = [None if np.isnan(value) else float(value) for value in arena[:, policy]]
        rates = {} if policy == base else compare_to_baseline(
            select_pairs(comparisons, policy, base), seed, n_bootstrap)
        report[name] = {**rates, "arena": dict(zip(("score", "low", "high"), scores, strict=True))}
    return report


def select_pairs(comparisons: PolicyComparisons, policy: int, baseline: int) -> PolicyComparisons:
    """The pairs of one policy with the baseline, the policy first."""
    swapped = (comparisons.sides == [baseline, policy]).all(axis=1)
    kept = (comparisons.sides == [policy, baseline]).all(axis=1) | swapped
    swap = swapped[kept, None]
    sides, preferences, lengths, prompts = (part[kept] for part in comparisons[:4])
    return PolicyComparisons(
        np.where(swap, sides[:, ::-1], sides), np.where(swap, 1 - preferences, preferences),
        np.where(swap, lengths[:, ::-1], lengths), prompts,
        None if comparisons.difficulty is None else comparisons.difficulty[kept],
    )


def compare_to_baseline(comparisons: PolicyComparisons, seed: int, n_bootstrap: int) -> dict[str, Any]:
    """Win rates of one policy against the baseline."""
    known = ~np.isnan(comparisons.preferences)
    judged = np.asarray(known.any(axis=1))
    wins = np.where(known, comparisons.preferences, 0).sum(axis=1)[judged] / known.sum(axis=1)[judged]
    side = np.sign(np.round(wins - 0.5, 9))
    counts = {"pairs": len(judged), "wins": int((side > 0).sum()), "ties": int((side == 0).sum()),
              "losses": int((side < 0).sum()), "missing": int((~judged).sum())}
    if not judged.any():
        return counts | dict.fromkeys(("win_rate", "low", "high", "length_controlled", "length", "baseline_length"))
    prompts, lengths = comparisons.prompts[judged], comparisons.lengths[judged]
    difficulty = None if comparisons.difficulty is None else comparisons.difficulty[judged]
    differences = lengths[:, 0] - lengths[:, 1]
    controlled = length_controlled_rate(
        wins, differences, difficulty=difficulty, groups=prompts, seed=seed, n_bootstrap=n_bootstrap)
    alpaca = None if len(np.unique(prompts)) < FOLDS else alpaca_rate(
        wins, differences, difficulty=difficulty, groups=prompts)
    length, baseline_length = lengths.mean(axis=0).tolist()
    return {
        **counts, "win_rate": float(wins.mean()), **mean_interval(wins, prompts, seed, n_bootstrap),
        "length_controlled": {**controlled._asdict(), "alpaca": alpaca},
        "length": length, "baseline_length": baseline_length,
    }


def mean_interval(
    values: NDArray[np.float64], groups: NDArray[Any], seed: int, n_bootstrap: int
) -> dict[str, float | None]:
    """95 % bootstrap interval of a mean as `low` and `high`, None for fewer than two groups."""
    if len(np.unique(groups)) < 2:
        return {"low": None, "high": None}
    return ratio_interval(values, np.ones_like(values), groups, seed=seed, n_bootstrap=n_bootstrap)._asdict()


def arena_scores(
    comparisons: PolicyComparisons, *, policies: int, baseline: int, seed: int = 0, n_bootstrap: int = 1000
) -> NDArray[np.float64]:
    """Probability that each policy beats the baseline under Bradley-Terry: rows score, low and high, [3, policy].

        score_m = sigmoid(e_m - e_baseline)

    with ratings e from all comparisons, each order a battle of its own and a preference other than 1/2 a win; ties are
    half a win. The interval is a 95 % percentile bootstrap over prompts. The baseline has 1/2 throughout, a policy that
    no chain of comparisons connects to it NaN. A ridge of 0.01 keeps ratings finite if one policy always wins. A
    judge's position bias is not modelled: over both orders it evens out, and brings scores nearer to 1/2.

    Raises `InputError` for arrays that do not fit together and values out of range.

    Source: Li et al. 2024 (arXiv 2406.11939), Arena-Hard, Section 4, there in percent and with verdicts of five grades.
    """
    check_comparisons(comparisons, policies)
    verdicts = np.sign(np.round(comparisons.preferences - 0.5, 9))
    orders = verdicts.shape[1]
    first, second = (np.repeat(comparisons.sides[:, side], orders) for side in (0, 1))
    prompts = np.repeat(comparisons.prompts, orders)

    def rate(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores [resample, policy]."""
        wins = wins_from_list(first, second, verdicts.ravel(), n_items=policies, weights=weights)
        fit = bradley_terry(wins, ridge=RIDGE)
        connected = fit.components == fit.components[:, [baseline]]
        return np.where(connected, expit(fit.ratings - fit.ratings[:, [baseline]]), np.nan)

    score = rate(np.ones((1, len(prompts))))
    if len(np.unique(prompts)) < 2:
        return np.concatenate([score, np.full((2, policies), np.nan)])
    scores = cluster_bootstrap(rate, prompts, seed=seed, n_bootstrap=n_bootstrap).T
    bounds = [np.nanquantile(row, QUANTILES) if not np.isnan(row).all() else (np.nan, np.nan) for row in scores]
    return np.concatenate([score, np.array(bounds).T])


def check_comparisons(comparisons: PolicyComparisons, policies: int) -> None:
    """Refuse comparisons whose arrays do not fit together."""
    sides, preferences, lengths, prompts, difficulty = comparisons
    pairs = len(sides)
    for name, array, shapes in (
        ("sides", sides, [(pairs, 2)]), ("lengths", lengths, [(pairs, 2)]), ("prompts", prompts, [(pairs,)]),
        ("preferences", preferences, [(pairs, 1), (pairs, 2)]), ("difficulty", difficulty, [(pairs,)]),
    ):
        if array is not None and array.shape not in shapes:
            raise_input_error(name, f"shape {' or '.join(map(str, shapes))}", Verbatim(f"shape {array.shape}"),
                              "Pass all pairs, and a column for each order.")
    finite_array("lengths", lengths, ("pair", "side"))
    if ((preferences < 0) | (preferences > 1)).any():
        raise_input_error("preferences", "numbers in [0, 1]", Verbatim("others"), "1/2 is a tie.")
    if sides.min() < 0 or sides.max() >= policies or (sides[:, 0] == sides[:, 1]).any():
        raise_input_error(
            "sides", f"two different indices in [0, {policies})", Verbatim("others"), "Number the policies."
        )


def grade_turns(
    scores: ArrayLike, turns: ArrayLike, questions: ArrayLike, *, seed: int = 0, n_bootstrap: int = 1000
) -> dict[str, Any]:
    """Mean score of the answers in each turn, and of all, ready for JSON: mean, low, high (95 %), answers, missing.

        turns   by turn, as text ("1", "2", ..)
        all     of all answers alike, as MT-Bench averages

    `scores` over [answer], NaN for none, which are left out and counted; `turns` over [answer], 1 for the first;
    `questions` over [answer], the questions' names, which the bootstrap draws with all their turns. Undefined values
    are None. Raises `InputError` for shapes that do not fit.

    Source: Zheng et al. 2023 (arXiv 2306.05685), MT-Bench, single-answer grading.
    """
    values, groups = np.asarray(scores, dtype=np.float64), np.asarray(questions)
    numbers = finite_array("turns", turns, ("answer",))
    for name, array in (("turns", numbers), ("questions", groups)):
        if array.shape != values.shape:
            raise_input_error(name, f"the scores' shape, {values.shape}", Verbatim(f"shape {array.shape}"), "Pass all.")

    def grade(selected: NDArray[np.bool_]) -> dict[str, Any]:
        """The mean of some answers."""
        scored = selected & ~np.isnan(values)
        return {"mean": float(values[scored].mean()) if scored.any() else None,
                **mean_interval(values[scored], groups[scored], seed, n_bootstrap),
                "answers": int(scored.sum()), "missing": int((selected & ~scored).sum())}

    return {
        "turns": {f"{turn:g}": grade(numbers == turn) for turn in np.unique(numbers)},
        "all": grade(np.ones(len(values), dtype=np.bool_)),
    }


def follow_up_prompt(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Prompts of the second turn: the conversation of a policy's first turn so far and the next question.

    `rows` have `prompt` (messages), `responses` (messages each), of which the first is continued, and `follow_up`, the
    text of the second question; rows without one are left out. A row that comes out has `prompt`, `turn` 2 and
    `question`, by which `rmkit compare` joins both turns: the row's own, or else the first prompt's name. The `id`, if
    there is one, ends in "/2"; other columns stay.
    """
    for row in rows:
        if row.get("follow_up"):
            others = {name: value for name, value in row.items() if name not in ("responses", "follow_up")}
            if row.get("id") is not None:
                others["id"] = f"{row['id']}/2"
            yield {
                **others,
                "prompt": [*row["prompt"], *row["responses"][0], {"role": "user", "content": row["follow_up"]}],
                "turn": 2,
                "question": row.get("question") or name_question(row["prompt"]),
            }


def name_question(prompt: Sequence[Mapping[str, str]]) -> str:
    """The name of a question that has none: its conversation as JSON."""
    return json.dumps([[message["role"], message["content"]] for message in prompt], ensure_ascii=False)
