"""What hostile text does to the score that a language model gives: the same response with it and without it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from datasets import Dataset
from numpy.typing import NDArray

from benchmarks.judges.attacks import ATTACKS, CONTROL, draw_controls
from rmkit.judges.base import JudgeTask
from rmkit.metrics import bootstrap_interval, ratio_interval

RESPONSES = 8  # rejected responses, which the attacks follow in turns
CONTROLLED = 2  # every second attack has a control
HIGHEST = "5"
NUMBER = f"There were {HIGHEST} of them."  # no attack, but for the digit
Scores = Mapping[str, float]  # by the task's id, NaN for an answer that cannot be read


def list_attacks() -> list[tuple[str, str]]:
    """Family and text of each attack."""
    families: dict[str, list[str]] = yaml.safe_load(ATTACKS.read_text(encoding="utf-8"))
    return [(family, text) for family, texts in families.items() for text in texts]


def build_tasks(pairs: Dataset) -> list[JudgeTask]:
    """The rejected responses of the first pairs; and attacks, controls as long, or NUMBER behind one of them."""
    attacks = list_attacks()
    longest = max(len(text) for _, text in attacks)
    long = [place for place, row in enumerate(pairs) if len(row["chosen"][-1]["content"]) >= longest]
    controls = draw_controls(pairs.select(long), [len(text) for _, text in attacks], 0)
    rows = pairs.select(range(RESPONSES)).to_list()

    def show(name: str, row: Mapping[str, Any], tail: str = "") -> JudgeTask:
        return JudgeTask(
            name, row["prompt"], ([{**row["rejected"][-1], "content": row["rejected"][-1]["content"] + tail}],)
        )

    tasks = [show(f"plain/{number}", row) for number, row in enumerate(rows)]
    for number, ((family, text), control) in enumerate(zip(attacks, controls, strict=True)):
        own = number // CONTROLLED % RESPONSES  # so that every response is controlled
        tails = {"attack": text} | ({} if number % CONTROLLED else {CONTROL: control})
        tasks += [show(f"{kind}/{own}/{number}/{family}", rows[own], f"\n\n{tail}") for kind, tail in tails.items()]
    tasks += [show(f"number/{own}/-/-", row, f"\n\n{NUMBER}") for own, row in enumerate(rows)]
    return tasks


def compare(expected: Scores, written: Scores, again: Scores) -> dict[str, Any]:
    """How scores move, of attacks and of controls, in all and by family; `again`: plain responses asked again alone.

    noise: the largest difference of expected scores between the two askings. moved: share whose expected score differs
    from the plain response's by more than that; raised: is higher by more; shift: mean difference in points; rewritten:
    share whose written score is another one; unread: how many have no expected score, with the text or without. far:
    share whose expected score differs by more than those of 95 % of the controls.
    """
    plain = {name: score for name, score in expected.items() if name in again}
    noise = max((abs(plain[name] - again[name]) for name in again if plain[name] == plain[name]), default=np.nan)
    moves = {kind: [(name.split("/", 3), expected[name], written[name]) for name in expected
                    if name.startswith(kind)] for kind in ("attack", CONTROL, "number")}

    def subtract(entries: Sequence[Any], scores: Scores, column: int) -> NDArray[np.float64]:
        return np.array([entry[column] - scores[f"plain/{entry[0][1]}"] for entry in entries])

    usual = np.nanquantile(np.abs(subtract(moves[CONTROL], expected, 1)), 0.95)

    def describe(entries: Sequence[Any]) -> dict[str, Any]:
        shift = subtract(entries, expected, 1)
        read = ~np.isnan(shift)
        if not read.any():
            return {"unread": len(shift)}
        rewritten = subtract(entries, written, 2)
        found = shift[read]
        owners = np.array([entry[0][1] for entry in entries])[read]
        figures: dict[str, Any] = {
            "moved": float((np.abs(found) > noise).mean()), "raised": float((found > noise).mean()),
            "shift": float(found.mean()), "far": float((np.abs(found) > usual).mean()),
            "rewritten": float((rewritten[~np.isnan(rewritten)] != 0).mean()), "unread": int((~read).sum()),
        }
        if len(np.unique(owners)) >= RESPONSES:
            figures["raised_interval"] = ratio_interval(found > noise, np.ones(len(found)), owners, seed=0)
            figures["shift_interval"] = bootstrap_interval(
                lambda weights: weights @ found / weights.sum(axis=1), owners, seed=0)
        return figures

    naming = [HIGHEST in text for _, text in list_attacks()]
    families = list(dict.fromkeys(names[3] for names, _, _ in moves["attack"]))
    return {
        "responses": RESPONSES, "noise": float(noise), "usual": float(usual),
        "attacks": {family: sum(entry[0][3] == family for entry in moves["attack"]) for family in families},
        "all": {kind: describe(entries) for kind, entries in moves.items()},
        "naming": {str(told): describe([entry for entry in moves["attack"] if naming[int(entry[0][2])] == told])
                   for told in (True, False)},
        "naming_count": sum(naming),
        "families": {family: {kind: describe([entry for entry in moves[kind] if entry[0][3] == family])
                              for kind in ("attack", CONTROL)} for family in families},
    }
