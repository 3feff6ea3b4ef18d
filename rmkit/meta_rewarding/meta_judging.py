"""Meta-judging: the judgments of each prompt's most disputed response are compared in pairs by a language model."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import output_settings
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import PARTIAL_SUFFIX, Stage, open_stage
from rmkit.data.resumable import append_jsonl, read_partial_jsonl, write_jsonl
from rmkit.generation import Failed
from rmkit.judges.base import JudgeTask, Judgment
from rmkit.judges.judged_samples import JudgedSamples, read_judged
from rmkit.judges.language_model import PENDING, build_sampler, render_task
from rmkit.judges.meta_judge import JudgmentSet, MetaJudge, highest_variance_response
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.meta_rewarding.step_config import MetaJudgingConfig

META_JUDGMENTS = "meta_judgments.jsonl"


def run_meta_judging(config: MetaJudgingConfig) -> Path:
    """Write `meta_judgments.jsonl`, a row for each prompt with two different judgments; returns the output folder.

    A row has `response`: index of the response whose scores vary most (`highest_variance_response`); `prompt`: the
    conversation in which the judge was asked; `judgments`, `scores`: distinct judgments of that response; `verdicts`:
    [judgment, judgment] as in `MetaJudge.compare`, null for none; `answers`: the meta-judge's texts.
    Raises `InputError` if answers failed; the same command asks for them again.
    """
    with open_stage(config.output_dir, "meta_judge", output_settings(config), {"data": config.data}) as stage:
        if not stage.done:
            compare_judgments(stage, config)
    (stage.directory / PENDING).unlink(missing_ok=True)
    return stage.directory


def compare_judgments(stage: Stage, config: MetaJudgingConfig) -> None:
    """Compare the judgments of all prompts that are not in the partial output yet, a batch of prompts at a time."""
    judged = read_judged(config.data)
    partial = stage.directory / (META_JUDGMENTS + PARTIAL_SUFFIX)
    rows = {row["id"]: row for row in read_partial_jsonl(partial)}
    missing = [prompt for prompt, name in enumerate(judged.ids) if name not in rows]
    if missing:
        sampler = build_sampler(config, seed=derive_seed(config.seed, "battles"), folder=stage.directory,
                                trust_remote_code=config.trust_remote_code)
        meta_judge = MetaJudge(sampler, config.prompt)
    for start in tqdm(range(0, len(missing), config.batch_size), "Meta-judging", unit="batch"):
        batch = compare_batch(meta_judge, config, judged, missing[start:start + config.batch_size])
        append_jsonl(partial, batch)
        rows |= {row["id"]: row for row in batch}
        (stage.directory / PENDING).unlink(missing_ok=True)
    ordered = [rows[name] for name in judged.ids]
    compared = [row for row in ordered if row["judgments"]]
    write_jsonl(partial, compared)
    partial.replace(stage.directory / META_JUDGMENTS)
    counts = Counter(answer["kind"] for row in ordered for answer in row["answers"])
    stage.record.update(rows=len(compared), skipped=len(ordered) - len(compared), answers=counts)


def compare_batch(
    meta_judge: MetaJudge, config: MetaJudgingConfig, judged: JudgedSamples, prompts: Sequence[int]
) -> list[dict[str, Any]]:
    """The output rows of some prompts; those with fewer than two different judgments have none of them."""
    rows, sets = [], []
    for prompt in prompts:
        seed = derive_seed(config.seed, "disputed", judged.ids[prompt])
        response = highest_variance_response(judged.scores[prompt], seed=seed)
        task = JudgeTask(judged.ids[prompt], judged.prompts[prompt], (judged.responses[prompt][response or 0],))
        scores = {} if response is None else distinct_judgments(judged, prompt, response, config.max_judgments)
        shown = render_task(JUDGE_PROMPTS[config.prompt], task, "original", meta_judge.sampler.special_tokens)
        sets.append(JudgmentSet(task.prompt, task.responses[0], list(scores)))
        rows.append({"id": task.id, "response": response, "prompt": [dict(message) for message in shown],
                     "judgments": list(scores), "scores": list(scores.values())})
    compared = meta_judge.compare(sets)
    answers = [[answer for pair in pairs for answer in pair] for _, pairs in compared]
    failures = [answer.reason for of_prompt in answers for answer in of_prompt if isinstance(answer, Failed)]
    if failures:
        raise_input_error(
            "meta_judge", "an answer to every question",
            Verbatim(f"{len(failures)} failures, the first: {failures[0]}"), "The same command repeats these alone.",
        )
    return [{
        **row,
        "verdicts": [[None if np.isnan(verdict) else verdict for verdict in line] for line in verdicts.tolist()],
        "answers": [{"kind": type(answer).__name__.lower(), "order": answer.order, "text": answer.text,
                     "score": answer.score if isinstance(answer, Judgment) else None}
                    for answer in of_prompt if not isinstance(answer, Failed)],
    } for row, (verdicts, _), of_prompt in zip(rows, compared, answers, strict=True)]


def distinct_judgments(judged: JudgedSamples, prompt: int, response: int, limit: int | None) -> dict[str, float]:
    """Up to `limit` different judgments of a response, text -> score; none if there are fewer than two."""
    scores: dict[str, float] = {}
    for judgment in range(judged.scores.shape[2]):
        text = judged.texts.get((prompt, response, judgment))
        if text is not None and (limit is None or len(scores) < limit):
            scores.setdefault(text, float(judged.scores[prompt, response, judgment]))
    return scores if len(scores) > 1 else {}


def read_meta_judgments(folder: str | Path) -> list[dict[str, Any]]:
    """The rows that `run_meta_judging` wrote."""
    with (Path(folder) / META_JUDGMENTS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def stack_verdicts(rows: Sequence[dict[str, Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Verdicts [prompt, judgment, judgment] and scores [prompt, judgment] of meta-judgments, NaN for none."""
    width = max(len(row["judgments"]) for row in rows)
    verdicts, scores = np.full((len(rows), width, width), np.nan), np.full((len(rows), width), np.nan)
    for index, row in enumerate(rows):
        count = len(row["judgments"])
        verdicts[index, :count, :count] = np.array(row["verdicts"], dtype=np.float64)
        scores[index, :count] = row["scores"]
    return verdicts, scores
