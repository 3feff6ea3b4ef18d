"""Pairing: an iteration's pairs for DPO, from what was sampled, judged and fought, and from nothing else."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict, build_config
from rmkit.core.stage import open_stage, read_record
from rmkit.data.parquet import load_split, write_table
from rmkit.judges.results import JudgedSamples, read_judged
from rmkit.meta_rewarding.actor_selection import choose_rho, select_pairs
from rmkit.meta_rewarding.judge_selection import select_judgments
from rmkit.meta_rewarding.meta_judging import read_battles
from rmkit.meta_rewarding.score_fusion import Treatment, combine_scores, label_weak_pairs

HOLD = "hold"
ACTOR, JUDGE = "actor", "judge"  # whom a pair is for
LANGUAGE, REWARD = "language", "reward"
TRAIN = "train.parquet"


@dataclass(kw_only=True)
class PairConfig:
    """Make pairs of samples judged in the folders `language` and `reward` of `rmkit judge`, and of their `battles`.

    Actor pairs: length-controlled (`select_pairs`) by mean scores, of at least `least` judgments; both judges' are
    combined by `weights` (`combine_scores`); reward models' less `k` standard deviations of the members. `rho`: a
    number, or "hold", the one of `grid` under which the chosen responses are as long as the samples in `length_of`
    (a folder of `rmkit judge`) on average. A chosen response of more than `max_response` characters takes its pair
    away. Weak pairs, of a strength below `threshold`, are kept, dropped, or given soft targets (`label_weak_pairs`): the
    strength is the reward models' mean gap, without them the language model's mean scores' gap, times `scale`;
    `margin_scale` gives all actor pairs a margin by it.

    Judge pairs: `select_judgments`, with its `ridge`, and `max_judgment` characters; `equal_scores`: whether the two
    may give the same score.
    """

    output_dir: str
    language: str | None = None
    reward: str | None = None
    battles: str | None = None
    rho: float | Literal["hold"] = 0.0
    grid: list[float] = field(default_factory=lambda: [0.0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.48])
    length_of: str | None = None
    least: int = 1
    weights: dict[str, float] = field(default_factory=lambda: {LANGUAGE: 1.0, REWARD: 1.0})
    k: float = 0.0
    max_response: int | None = None
    max_judgment: int | None = None
    equal_scores: bool = True
    ridge: float = 0.01
    weak: Treatment = "keep"
    threshold: float = 0.0
    scale: float = 1.0
    margin_scale: float = 0.0

    def __post_init__(self) -> None:
        if self.language is None and self.reward is None:
            raise_input_error(
                "language and reward", "one judge's folder, or both", Verbatim("neither"), "Name what was judged."
            )
        if (self.rho == HOLD) != (self.length_of is not None):
            raise_input_error(
                "rho and length_of",
                "samples whose length is held, with rho hold, and none without",
                (self.rho, self.length_of),
                "Set both or neither.",
            )
        numbers = [*self.grid, *([] if isinstance(self.rho, str) else [self.rho])]
        if not all(0 <= rho < 0.5 for rho in numbers):
            raise_input_error("rho and grid", "numbers in [0, 0.5)", numbers, "0 chooses by score alone.")
        if self.least < 1:
            raise_input_error("least", "at least 1 judgment", self.least, "Raise least.")
        if self.weak not in ("keep", "drop", "soft"):
            raise_input_error("weak", "keep, drop or soft", self.weak, "Choose one of these.")


def write_pairs(config: PairConfig) -> Path:
    """Write `train.parquet`, pairs as `rmkit dpo` takes them; the record says why prompts gave none."""
    roles = ("language", "reward", "battles", "length_of")
    inputs = {role: getattr(config, role) for role in roles if getattr(config, role) is not None}
    with open_stage(config.output_dir, "pair", as_dict(config), inputs) as stage:
        if not stage.done:
            rows, facts = make_pairs(config)
            stage.record.update(facts)
            write_table(Dataset.from_list(rows), stage.directory / TRAIN)
    return stage.directory


def replay_pairs(folder: str | Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The pairs in a folder of `write_pairs`, and those that the datasets it was made from give now."""
    record = read_record(folder) or {}
    if record.get("stage") != "pair":
        raise_input_error(
            f"folder {folder}",
            "a finished stage `write_pairs`",
            Verbatim(str(record.get("stage"))),
            "Name an iteration's.",
        )
    config = build_config(PairConfig, {**record["config"], "output_dir": str(folder)}, str(folder))
    written = load_split(folder, "train").to_list()
    again = Dataset.from_list(make_pairs(config)[0]).to_list()
    return written, again


def make_pairs(config: PairConfig) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows, actor's before judge's, and the counts."""
    judges = {name: read_judged(folder) for name, folder in ((LANGUAGE, config.language), (REWARD, config.reward))
              if folder is not None}
    rows, facts = make_actor_pairs(config, judges)
    if config.battles is not None:
        more, found = make_judge_pairs(config, read_battles(config.battles))
        rows, facts = rows + more, facts | found
    if not rows:
        raise_input_error("pair", "a pair to learn from", Verbatim(facts), "Look at the judge's scores.")
    if not any(row["target"] != 1 for row in rows) and not any(row["margin"] for row in rows):
        rows = [{name: value for name, value in row.items() if name not in ("target", "margin")} for row in rows]
    return rows, facts


def score_responses(config: PairConfig, judges: dict[str, JudgedSamples]) -> NDArray[np.float64]:
    """One score of each response, [prompt, response]; NaN for one that may not be taken."""
    scores = {name: judged.average(config.least, config.k if name == REWARD else 0.0)
              for name, judged in judges.items()}
    judged, *others = judges.values()
    if any(other.ids != judged.ids or other.contents != judged.contents for other in others):
        raise_input_error(
            "language and reward", "judgments of the same responses", Verbatim("others"), "Judge the same samples."
        )
    if others:
        found = combine_scores(scores, {name: config.weights[name] for name in scores})
    else:
        found = next(iter(scores.values()))
    return np.where(judged.first, found, np.nan)


def make_actor_pairs(
    config: PairConfig, judges: dict[str, JudgedSamples]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Pairs of responses."""
    judged = next(iter(judges.values()))
    scores, lengths = score_responses(config, judges), judged.lengths
    if isinstance(config.rho, str):
        target = float(np.nanmean(read_judged(config.length_of or "").lengths))
        rho = choose_rho(scores, lengths, target=target, grid=config.grid)
    else:
        rho = config.rho
    places = select_pairs(scores, lengths, rho=rho)
    prompts = np.flatnonzero(places[:, 0] >= 0)
    if not len(prompts):
        return [], {"rho": rho, "actor": {"pairs": 0, "left": {"no two scores": len(places)}}}
    chosen, rejected = places[prompts].T
    labels = label_weak_pairs(
        measure_strength(judges, prompts, chosen, rejected),
        treatment=config.weak,
        threshold=config.threshold,
        scale=config.scale,
        margin_scale=config.margin_scale,
    )
    rows: list[dict[str, Any]] = []
    why = Counter({"no two scores": len(places) - len(prompts)})
    for number, (prompt, one, other) in enumerate(zip(prompts.tolist(), chosen, rejected, strict=True)):
        if config.max_response is not None and lengths[prompt, one] > config.max_response:
            why["chosen too long"] += 1
        elif not labels.keep[number]:
            why["weak"] += 1
        else:
            rows.append({
                "id": f"{ACTOR}:{judged.ids[prompt]}", "prompt": judged.prompts[prompt],
                "chosen": judged.responses[prompt][one], "rejected": judged.responses[prompt][other],
                "source": ACTOR, "target": float(labels.target[number]), "margin": float(labels.margin[number]),
                "score_chosen": float(scores[prompt, one]), "score_rejected": float(scores[prompt, other]),
            })
    picked = [len(row[side][-1]["content"]) for row in rows for side in ("chosen", "rejected")]
    facts = {"rho": rho, "actor": {"pairs": len(rows), "weak": int(labels.weak.sum()), "left": dict(+why),
                                   "length": float(np.nanmean(lengths)), "length_chosen": mean(picked[::2]),
                                   "length_rejected": mean(picked[1::2])}}
    return rows, facts


def measure_strength(
    judges: dict[str, JudgedSamples], prompts: NDArray[np.intp], chosen: NDArray[np.intp], rejected: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Gaps [member, pair]: of the reward models' rewards, or, as of one member, of the language model's mean scores."""
    if REWARD in judges:
        rewards = judges[REWARD].rewards
        return np.asarray((rewards[prompts, chosen] - rewards[prompts, rejected]).T, dtype=np.float64)
    means = judges[LANGUAGE].average()
    return np.asarray(means[prompts, chosen] - means[prompts, rejected], dtype=np.float64)[None]


def make_judge_pairs(
    config: PairConfig, battles: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Pairs of judgments, each behind the conversation in which the judge was asked."""
    if not battles:
        return [], {"judge": {"pairs": 0}}
    verdicts, scores = stack_verdicts(battles)
    lengths = np.full(scores.shape, np.nan)
    for place, row in enumerate(battles):
        lengths[place, :len(row["judgments"])] = [len(text) for text in row["judgments"]]
    found = select_judgments(verdicts, lengths, max_length=config.max_judgment, ridge=config.ridge,
                             scores=None if config.equal_scores else scores)
    rows = []
    for row, one, other in zip(battles, found.chosen.tolist(), found.rejected.tolist(), strict=True):
        if one >= 0:
            rows.append({
                "id": f"{JUDGE}:{row['id']}", "prompt": row["prompt"],
                **{side: [{"role": "assistant", "content": row["judgments"][place]}]
                   for side, place in (("chosen", one), ("rejected", other))},
                "source": JUDGE, "target": 1.0, "margin": 0.0,
                "score_chosen": row["scores"][one], "score_rejected": row["scores"][other],
            })
    weights = {"first": float(found.weights.first), "second": float(found.weights.second)}
    return rows, {"judge": {**found.count(), "position_weights": weights}}


def stack_verdicts(battles: Sequence[dict[str, Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Verdicts [prompt, judgment, judgment] and scores [prompt, judgment], NaN where there is none.

    Raises `InputError` for no battles at all.
    """
    if not battles:
        raise_input_error(
            "battles", "at least one prompt whose judgments fought", Verbatim("none"), "Judge prompts more than once."
        )
    most = max(len(row["judgments"]) for row in battles)
    verdicts, scores = np.full((len(battles), most, most), np.nan), np.full((len(battles), most), np.nan)
    for place, row in enumerate(battles):
        count = len(row["judgments"])
        verdicts[place, :count, :count] = np.array(row["verdicts"], dtype=np.float64)
        scores[place, :count] = row["scores"]
    return verdicts, scores


def mean(values: Sequence[float]) -> float | None:
    """The mean, None without any."""
    return float(np.mean(values)) if values else None
