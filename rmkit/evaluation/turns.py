"""Two-turn single-answer grading: each answer of a conversation scored by itself, and the second question put."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Seen, refuse
from rmkit.ratings import share_interval


def grade_turns(
    scores: ArrayLike, turns: ArrayLike, questions: ArrayLike, *, seed: int = 0, resamples: int = 1000
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
        refuse("questions", f"one name per answer, shape {values.shape}", Seen(f"shape {names.shape}"), "Pass all.")

    def describe(counted: NDArray[np.bool_]) -> dict[str, Any]:
        """The figures of some answers."""
        given = counted & ~np.isnan(values)
        own, groups = values[given], names[given]
        low, high = (None, None) if len(np.unique(groups)) < 2 else share_interval(
            own, np.ones_like(own), groups, seed=seed, resamples=resamples)
        return {"mean": float(own.mean()) if len(own) else None, "low": low, "high": high,
                "answers": len(own), "missing": int((counted & ~given).sum())}

    return {
        "turns": {f"{turn:g}": describe(numbers == turn) for turn in np.unique(numbers)},
        "all": describe(np.ones(len(values), dtype=np.bool_)),
    }


def ask_again(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
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
