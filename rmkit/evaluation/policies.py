"""How good policies are beside each other: win rates, plain and at equal lengths, and arena scores."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.metrics import bradley_terry, ratio_interval, wins_from_list
from rmkit.metrics.length_control import FOLDS, alpaca_rate, length_controlled_rate
from rmkit.metrics.significance import cluster_bootstrap, quantiles

RIDGE = 0.01


class PolicyComparisons(NamedTuple):
    """Pairs of responses to one prompt by two policies, and what a judge said of them, all over [pair].

    sides: [pair, 2], numbers of the policies. preferences: [pair, order], how far the first of the two is preferred, in
    [0, 1], whichever was shown first; NaN for no answer that can be read; one order for a judge that scores.
    lengths: [pair, 2], characters. prompts: names, by which the bootstrap draws. difficulty: of the prompts, or None.
    """

    sides: NDArray[np.integer[Any]]
    preferences: NDArray[np.float64]
    lengths: NDArray[np.float64]
    prompts: NDArray[Any]
    difficulty: NDArray[np.float64] | None = None


def evaluate_policies(
    matches: PolicyComparisons, names: Sequence[str], *, baseline: str, seed: int = 0, n_bootstrap: int = 1000
) -> dict[str, Any]:
    """What each policy is worth beside `baseline`, by name, ready for JSON; what is undefined is None.

        pairs, wins, ties, losses, missing   of the pairs with the baseline; missing ones have no preference
        win_rate, low, high                  mean preference over its pairs, ties half, orders averaged; 95 %
        length_controlled                    as `length_controlled_rate`, and `alpaca`, as `alpaca_rate`
        length, baseline_length              mean characters in these pairs
        arena                                score, low, high: as `arena_scores`, from all matches

    Raises `InputError` for arrays that do not fit together, values out of range and an unknown baseline.
    """
    check_matches(matches, len(names))
    if baseline not in names or len(set(names)) < len(names):
        raise_input_error(
            "baseline", f"one of the different names {', '.join(names)}", baseline, "Name one of the policies."
        )
    anchor = list(names).index(baseline)
    arena = arena_scores(matches, policies=len(names), baseline=anchor, seed=seed, n_bootstrap=n_bootstrap)
    found = {}
    for number, name in enumerate(names):
        figures = [None if np.isnan(value) else float(value) for value in arena[:, number]]
        scores = dict(zip(("score", "low", "high"), figures, strict=True))
        own = {} if number == anchor else compare_to_baseline(select(matches, number, anchor), seed, n_bootstrap)
        found[name] = {**own, "arena": scores}
    return found


def select(matches: PolicyComparisons, policy: int, baseline: int) -> PolicyComparisons:
    """The matches of one policy with the baseline, the policy first."""
    ahead = (matches.sides == [policy, baseline]).all(axis=1)
    behind = (matches.sides == [baseline, policy]).all(axis=1)
    own = ahead | behind
    turned = behind[own, None]
    return PolicyComparisons(
        np.where(turned, matches.sides[own, ::-1], matches.sides[own]),
        np.where(turned, 1 - matches.preferences[own], matches.preferences[own]),
        np.where(turned, matches.lengths[own, ::-1], matches.lengths[own]),
        matches.prompts[own],
        None if matches.difficulty is None else matches.difficulty[own],
    )


def compare_to_baseline(matches: PolicyComparisons, seed: int, n_bootstrap: int) -> dict[str, Any]:
    """The figures of one policy against the baseline."""
    known = ~np.isnan(matches.preferences)
    judged = known.sum(axis=1) > 0
    wins = np.where(known, matches.preferences, 0).sum(axis=1)[judged] / known.sum(axis=1)[judged]
    side = np.sign(np.round(wins - 0.5, 9))
    counts = {"pairs": len(judged), "wins": int((side > 0).sum()), "ties": int((side == 0).sum()),
              "losses": int((side < 0).sum()), "missing": int((~judged).sum())}
    if not judged.any():
        return counts | dict.fromkeys(("win_rate", "low", "high", "length_controlled", "length", "baseline_length"))
    prompts, lengths = matches.prompts[judged], matches.lengths[judged]
    apart = lengths[:, 0] - lengths[:, 1]
    groups = len(np.unique(prompts))
    low, high = (None, None) if groups < 2 else ratio_interval(
        wins, np.ones_like(wins), prompts, seed=seed, n_bootstrap=n_bootstrap)
    difficulty = None if matches.difficulty is None else matches.difficulty[judged]
    controlled = length_controlled_rate(
        wins, apart, difficulty=difficulty, groups=prompts, seed=seed, n_bootstrap=n_bootstrap)
    penalised = None if groups < FOLDS else alpaca_rate(wins, apart, difficulty=difficulty, groups=prompts)
    own, other = lengths.mean(axis=0).tolist()
    return {
        **counts, "win_rate": float(wins.mean()), "low": low, "high": high,
        "length_controlled": {**controlled._asdict(), "alpaca": penalised},
        "length": own, "baseline_length": other,
    }


def arena_scores(
    matches: PolicyComparisons,
    *,
    policies: int,
    baseline: int,
    seed: int = 0,
    n_bootstrap: int = 1000,
    level: float = 0.95,
) -> NDArray[np.float64]:
    """Chance that each policy beats the baseline under Bradley-Terry: rows score, low and high, [3, policy].

        score_m = sigmoid(e_m - e_baseline)

    with ratings e from all matches, each order a battle of its own and a preference other than 1/2 a win; ties are half
    a win. The interval is that of a percentile bootstrap over prompts. The baseline has 1/2 throughout, a policy that
    no chain of matches joins to it NaN. A ridge of 0.01 keeps ratings finite where one policy wins always. A judge's
    lean to a position is not modelled: in both orders it evens out, and brings scores nearer to 1/2.

    Raises `InputError` for arrays that do not fit together and values out of range.

    Source: Li et al. 2024 (arXiv 2406.11939), Arena-Hard, Section 4, there in percent and with verdicts of five grades.
    """
    check_matches(matches, policies)
    verdicts = np.sign(np.round(matches.preferences - 0.5, 9))
    orders = verdicts.shape[1]
    first, second = (np.repeat(matches.sides[:, place], orders) for place in (0, 1))
    prompts = np.repeat(matches.prompts, orders)

    def rate(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores [resample, policy]."""
        found = bradley_terry(
            wins_from_list(first, second, verdicts.ravel(), n_items=policies, weights=weights), ridge=RIDGE
        )
        joined = found.components == found.components[:, [baseline]]
        return np.where(joined, expit(found.ratings - found.ratings[:, [baseline]]), np.nan)

    score = rate(np.ones((1, len(prompts))))
    if len(np.unique(prompts)) < 2:
        return np.concatenate([score, np.full((2, policies), np.nan)])
    drawn = cluster_bootstrap(rate, prompts, seed=seed, n_bootstrap=n_bootstrap)
    tails = [np.nanquantile(own, quantiles(level)) if not np.isnan(own).all() else (np.nan, np.nan) for own in drawn.T]
    return np.concatenate([score, np.array(tails).T])


def check_matches(matches: PolicyComparisons, policies: int) -> None:
    """Refuse matches whose arrays do not fit together."""
    pairs = len(matches.sides)
    shapes = {"sides": (pairs, 2), "lengths": (pairs, 2), "prompts": (pairs,)}
    for name, shape in shapes.items():
        if getattr(matches, name).shape != shape:
            raise_input_error(
                name, f"shape {shape}", Verbatim(f"shape {getattr(matches, name).shape}"), "Pass all pairs."
            )
    finite_array("lengths", matches.lengths, ("pair", "side"))
    if matches.difficulty is not None and matches.difficulty.shape != (pairs,):
        raise_input_error(
            "difficulty", f"one per pair, {pairs}", Verbatim(f"shape {matches.difficulty.shape}"), "Pass all pairs."
        )
    given = matches.preferences[~np.isnan(matches.preferences)]
    if matches.preferences.ndim != 2 or len(matches.preferences) != pairs or matches.preferences.shape[1] not in (1, 2):
        raise_input_error(
            "preferences",
            "an array over [pair, order], one order or two",
            Verbatim(f"shape {matches.preferences.shape}"),
            "Give each order a column.",
        )
    if len(given) and not (given.min() >= 0 and given.max() <= 1):
        raise_input_error("preferences", "numbers in [0, 1]", Verbatim("others"), "1/2 is a tie.")
    if matches.sides.min() < 0 or matches.sides.max() >= policies or (matches.sides[:, 0] == matches.sides[:, 1]).any():
        raise_input_error(
            "sides", f"two different numbers in [0, {policies})", Verbatim("others"), "Number the policies."
        )


def grade_turns(
    scores: ArrayLike, turns: ArrayLike, questions: ArrayLike, *, seed: int = 0, n_bootstrap: int = 1000
) -> dict[str, Any]:
    """Mean score of the answers in each turn, and of all, ready for JSON: mean, low, high (95 %), answers, missing.

        turns   by turn, as text ("1", "2", ..)
        all     of all answers alike, as MT-Bench averages

    `scores` over [answer], NaN for those without one, which are left out and counted; `turns` over [answer], 1 for the
    first; `questions` over [answer], whatever names the question, by which the bootstrap draws: the turns of one
    question go together. What is undefined is None. Raises `InputError` for shapes that do not fit.

    Source: Zheng et al. 2023 (arXiv 2306.05685), MT-Bench, single-answer grading.
    """
    values, names = np.asarray(scores, dtype=np.float64), np.asarray(questions)
    numbers = finite_array("turns", turns, ("answer",))
    same_shape("turns", numbers, "scores", values)
    if names.shape != values.shape:
        raise_input_error(
            "questions", f"one name per answer, shape {values.shape}", Verbatim(f"shape {names.shape}"), "Pass all."
        )

    def describe(counted: NDArray[np.bool_]) -> dict[str, Any]:
        """The figures of some answers."""
        given = counted & ~np.isnan(values)
        own, groups = values[given], names[given]
        low, high = (None, None) if len(np.unique(groups)) < 2 else ratio_interval(
            own, np.ones_like(own), groups, seed=seed, n_bootstrap=n_bootstrap)
        return {"mean": float(own.mean()) if len(own) else None, "low": low, "high": high,
                "answers": len(own), "missing": int((counted & ~given).sum())}

    return {
        "turns": {f"{turn:g}": describe(numbers == turn) for turn in np.unique(numbers)},
        "all": describe(np.ones(len(values), dtype=np.bool_)),
    }


def follow_up_prompt(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Prompts of the second turn, from a policy's samples of the first: the conversation so far and the next question.

    `rows` have `prompt` (messages), `responses` (messages each), of which the first is answered to, and `follow_up`,
    the text of the second question; rows without one are left out. A row that comes out has `prompt`, `turn` 2 and
    `question`, by which `rmkit compare` finds both turns together: the row's own, or else the first prompt's name. The
    `id`, where there is one, ends in "/2"; other columns stay.
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
