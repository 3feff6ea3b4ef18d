"""Builds one iteration's DPO pairs from its samples, judgments and meta-judgments."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import as_dict, build_config
from rmkit.core.stage import open_stage, read_record
from rmkit.data.parquet import load_split, write_table
from rmkit.judges.judged_samples import JudgedSamples, read_judged
from rmkit.meta_rewarding.actor_selection import choose_rho, select_pairs
from rmkit.meta_rewarding.judge_selection import select_judgments
from rmkit.meta_rewarding.meta_judging import read_meta_judgments, stack_verdicts
from rmkit.meta_rewarding.score_fusion import combine_scores, label_weak_pairs
from rmkit.meta_rewarding.step_config import LLM, REWARD_MODEL, PairConfig

ACTOR, JUDGE = "actor", "judge"  # which role of the policy a pair trains
TRAIN = "train.parquet"
INPUTS = ("llm_judgments", "reward_judgments", "meta_judgments", "length_reference")
SIDES = ("chosen", "rejected")


def write_pairs(config: PairConfig) -> Path:
    """Write `train.parquet`, pairs for `rmkit dpo`; the record counts the prompts without a pair, by reason."""
    inputs = {name: getattr(config, name) for name in INPUTS if getattr(config, name) is not None}
    with open_stage(config.output_dir, "pair", as_dict(config), inputs) as stage:
        if not stage.done:
            rows, statistics = make_pairs(config)
            stage.record.update(statistics)
            write_table(Dataset.from_list(rows), stage.directory / TRAIN)
    return stage.directory


def replay_pairs(folder: str | Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The pairs in a folder of `write_pairs`, and the pairs that its inputs give now."""
    record = read_record(folder) or {}
    if record.get("stage") != "pair":
        raise_input_error(
            f"folder {folder}", "output of `write_pairs`", Verbatim(record.get("stage")), "Name an iteration's pairs."
        )
    config = build_config(PairConfig, {**record["config"], "output_dir": str(folder)})
    return load_split(folder, "train").to_list(), Dataset.from_list(make_pairs(config)[0]).to_list()


def make_pairs(config: PairConfig) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows, actor pairs before judge pairs, and the statistics."""
    folders = {LLM: config.llm_judgments, REWARD_MODEL: config.reward_judgments}
    judges = {name: read_judged(folder) for name, folder in folders.items() if folder is not None}
    rows, statistics = make_actor_pairs(config, judges)
    if config.meta_judgments is not None:
        judge_rows, judge_statistics = make_judge_pairs(config, read_meta_judgments(config.meta_judgments))
        rows, statistics = rows + judge_rows, statistics | judge_statistics
    if not rows:
        raise_input_error("pairs", "at least one", Verbatim(statistics), "Look at the judge's scores.")
    if all(row["target"] == 1 and not row["margin"] for row in rows):
        rows = [{name: value for name, value in row.items() if name not in ("target", "margin")} for row in rows]
    return rows, statistics


def score_responses(config: PairConfig, judges: dict[str, JudgedSamples]) -> NDArray[np.float64]:
    """One score for each response, [prompt, response]; NaN for repeated responses and those without a score."""
    scores = {name: judged.average(config.min_judgments, config.std_penalty if name == REWARD_MODEL else 0.0)
              for name, judged in judges.items()}
    first, *others = judges.values()
    if any(other.ids != first.ids or other.contents != first.contents for other in others):
        raise_input_error(
            "llm_judgments and reward_judgments", "judgments of the same responses", Verbatim("different ones"),
            "Judge the same samples.",
        )
    weights = {name: config.weights[name] for name in scores}
    combined = combine_scores(scores, weights) if others else next(iter(scores.values()))
    return np.where(first.first, combined, np.nan)


def make_actor_pairs(
    config: PairConfig, judges: dict[str, JudgedSamples]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Pairs of responses."""
    judged = next(iter(judges.values()))
    scores, lengths = score_responses(config, judges), judged.lengths
    if isinstance(config.rho, str):
        target = float(np.nanmean(read_judged(config.length_reference or "").lengths))
        rho = choose_rho(scores, lengths, target=target, grid=config.rho_grid)
    else:
        rho = config.rho
    pairs = select_pairs(scores, lengths, rho=rho)
    prompts = np.flatnonzero(pairs[:, 0] >= 0)
    if not len(prompts):
        return [], {"rho": rho, "actor": {"pairs": 0, "skipped": {"no two scores": len(pairs)}}}
    chosen, rejected = pairs[prompts].T
    labels = label_weak_pairs(
        measure_gaps(judges, prompts, chosen, rejected), policy=config.weak_pairs, threshold=config.weak_threshold,
        scale=config.strength_scale, margin_scale=config.margin_scale,
    )
    rows: list[dict[str, Any]] = []
    skipped = Counter({"no two scores": len(pairs) - len(prompts)})
    for number, prompt in enumerate(prompts.tolist()):
        if config.max_response is not None and lengths[prompt, chosen[number]] > config.max_response:
            skipped["chosen too long"] += 1
        elif not labels.keep[number]:
            skipped["weak"] += 1
        else:
            pair = pairs[prompt].tolist()
            rows.append(make_row(
                ACTOR, judged.ids[prompt], judged.prompts[prompt], [judged.responses[prompt][index] for index in pair],
                scores[prompt, pair].tolist(), float(labels.target[number]), float(labels.margin[number]),
            ))
    statistics: dict[str, Any] = {"pairs": len(rows), "weak": int(labels.weak.sum()), "skipped": dict(+skipped),
                                  "length": float(np.nanmean(lengths))}
    for side in SIDES:
        characters = [len(row[side][-1]["content"]) for row in rows]
        statistics[f"length_{side}"] = float(np.mean(characters)) if characters else None
    return rows, {"rho": rho, "actor": statistics}


def measure_gaps(
    judges: dict[str, JudgedSamples], prompts: NDArray[np.intp], chosen: NDArray[np.intp], rejected: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Gaps [member, pair] of the reward models' rewards; without reward models, of the language model's mean scores."""
    if REWARD_MODEL in judges:
        rewards = judges[REWARD_MODEL].rewards
        return np.asarray((rewards[prompts, chosen] - rewards[prompts, rejected]).T, dtype=np.float64)
    means = judges[LLM].average()
    return np.asarray(means[prompts, chosen] - means[prompts, rejected], dtype=np.float64)[None]


def make_row(
    role: str, name: str, prompt: Any, texts: list[Any], scores: list[float], target: float = 1.0, margin: float = 0.0
) -> dict[str, Any]:
    """The row of a pair; `texts` and `scores` are those of the chosen and of the rejected side."""
    return {"id": f"{role}:{name}", "prompt": prompt, "chosen": texts[0], "rejected": texts[1], "source": role,
            "target": target, "margin": margin, "score_chosen": scores[0], "score_rejected": scores[1]}


def make_judge_pairs(
    config: PairConfig, meta_judgments: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Pairs of judgments, with the conversation in which the judge was asked as prompt."""
    if not meta_judgments:
        return [], {"judge": {"pairs": 0}}
    verdicts, scores = stack_verdicts(meta_judgments)
    lengths = np.full(scores.shape, np.nan)
    for index, row in enumerate(meta_judgments):
        lengths[index, :len(row["judgments"])] = [len(text) for text in row["judgments"]]
    selected = select_judgments(verdicts, lengths, max_length=config.max_judgment, ridge=config.ridge,
                                scores=None if config.allow_equal_scores else scores)
    rows = []
    for row, *pair in zip(meta_judgments, selected.chosen.tolist(), selected.rejected.tolist(), strict=True):
        if pair[0] >= 0:
            texts = [[{"role": "assistant", "content": row["judgments"][index]}] for index in pair]
            rows.append(make_row(JUDGE, row["id"], row["prompt"], texts, [row["scores"][index] for index in pair]))
    weights = {"first": float(selected.weights.first), "second": float(selected.weights.second)}
    return rows, {"judge": {**selected.count(), "position_weights": weights}}
