"""Battles: the judgments of each prompt's most disputed response, put against each other by the meta-judge."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rmkit.core.checks import raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import PARTIAL_SUFFIX, Stage, open_stage
from rmkit.generation import Sampling, TransformersGenerator
from rmkit.judges.base import Failed, Given, JudgeTask, Judgment
from rmkit.judges.config import LLMJudgeConfig, list_settings, load_judge_generator
from rmkit.judges.language_model import JudgeSampler, render_task
from rmkit.judges.meta_judge import JudgmentSet, MetaJudge, highest_variance_response
from rmkit.judges.prompts import JUDGE_PROMPTS, META_JUDGE_PROMPTS
from rmkit.judges.results import JudgedSamples, read_judged
from rmkit.judges.sanitize import special_tokens

BATTLES = "battles.jsonl"
PENDING = "pending.jsonl"


@dataclass
class MetaJudgingConfig:
    """Compare judgments in the folder `data` of `rmkit judge`, all by one language model, by that model.

    `language_model.question` is the one that the judgments answer. `most`: judgments of a response that fight, at
    most; N of them take N (N - 1) answers, so that the paper's 11 take 110. `at_once`: prompts at once.
    """

    data: str
    output_dir: str
    language_model: LLMJudgeConfig
    most: int | None = None
    at_once: int = 64
    seed: int = 0
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.language_model.question not in META_JUDGE_PROMPTS:
            raise_input_error(
                "question",
                f"one with a meta-judge: {', '.join(META_JUDGE_PROMPTS)}",
                self.language_model.question,
                "The meta-judge compares judgments of single responses.",
            )
        if self.most is not None and self.most < 2:
            raise_input_error("most", "at least 2 judgments", self.most, "Leave it out for all of them.")
        if self.at_once < 1:
            raise_input_error("at_once", "at least 1", self.at_once, "64 is usual.")


def run_meta_judging(config: MetaJudgingConfig) -> Path:
    """Write `battles.jsonl`, a row for each prompt with two different judgments; returns the stage's folder.

    `response`: the place of the one whose scores vary most (`highest_variance_response`). `prompt`: the conversation in which it
    was put to the judge. `judgments`, `scores`: of those that fight, each text once. `verdicts`: [judgment, judgment],
    the row's shown first, as `MetaJudge.battle` gives them, null for none; `answers`: what the meta-judge wrote.
    Raises `InputError` when answers failed; the same command asks for them again.
    """
    with open_stage(config.output_dir, "battle", list_settings(config), {"data": config.data}) as stage:
        if not stage.done:
            fill(stage, config)
    (stage.directory / PENDING).unlink(missing_ok=True)
    return stage.directory


def fill(stage: Stage, config: MetaJudgingConfig) -> None:
    """Hold all battles that have not been held; rows are on disk as soon as their block is through."""
    judged = read_judged(config.data)
    draft = stage.directory / (BATTLES + PARTIAL_SUFFIX)
    known = read_jsonl_tolerant(draft)
    left = [prompt for prompt, name in enumerate(judged.ids) if name not in known]
    with draft.open("a", encoding="utf-8") as file:
        file.write("\n")  # ends what a killed process left
        arena = MetaJudgeRunner(config, stage.directory) if left else None
        for start in tqdm(range(0, len(left), config.at_once), "Battles", unit="block"):
            assert arena is not None
            for row in arena.hold(judged, left[start:start + config.at_once]):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                known[row["id"]] = row
            file.flush()
            os.fsync(file.fileno())
            (stage.directory / PENDING).unlink(missing_ok=True)
    rows = [known[name] for name in judged.ids]
    draft.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows if row["judgments"]), "utf-8")
    draft.replace(stage.directory / BATTLES)
    counts = Counter(answer["kind"] for row in rows for answer in row["answers"])
    stage.record.update(rows=sum(bool(row["judgments"]) for row in rows), answers=counts,
                        undisputed=sum(not row["judgments"] for row in rows))


class MetaJudgeRunner:
    """The meta-judge, and what is shown to it."""

    def __init__(self, config: MetaJudgingConfig, folder: Path) -> None:
        model = config.language_model
        generator = load_judge_generator(model, config.trust_remote_code)
        tokens = special_tokens(generator.tokenizer) if isinstance(generator, TransformersGenerator) else ()
        sampling = Sampling(temperature=model.temperature, top_p=model.top_p, max_new_tokens=model.max_new_tokens)
        asking = JudgeSampler(
            generator, sampling, model.samples, derive_seed(config.seed, "battles"), model.way, tokens, folder / PENDING
        )
        self.meta_judge = MetaJudge(asking, model.question)
        self.config = config

    def hold(self, judged: JudgedSamples, prompts: list[int]) -> Iterator[dict[str, Any]]:
        """The rows of some prompts; one of fewer than two different judgments has none of them."""
        rows, disputes = [], []
        for prompt in prompts:
            row, dispute = self.find(judged, prompt)
            rows.append(row)
            disputes.append(dispute)
        found = self.meta_judge.battle_each(disputes)
        failed = [one.reason for _, answers in found for given in answers for one in given if isinstance(one, Failed)]
        if failed:
            raise_input_error(
                "battle",
                "an answer to every question",
                f"{len(failed)} failures, the first: {failed[0]}",
                "The same command asks again for these alone.",
            )
        for row, (verdicts, answers) in zip(rows, found, strict=True):
            lists = [[None if np.isnan(one) else one for one in line] for line in verdicts.tolist()]
            yield {**row, "verdicts": lists, "answers": [to_record(one) for given in answers for one in given]}

    def find(self, judged: JudgedSamples, prompt: int) -> tuple[dict[str, Any], JudgmentSet]:
        """The disputed response of a prompt, and those of its judgments that fight."""
        scores = judged.scores[prompt]
        place = highest_variance_response(scores, seed=derive_seed(self.config.seed, "disputed", judged.ids[prompt]))
        task = JudgeTask(judged.ids[prompt], judged.prompts[prompt], (judged.responses[prompt][place or 0],))
        texts: dict[str, float] = {}
        for judgment in range(scores.shape[1] if place is not None else 0):
            text = judged.texts.get((prompt, place or 0, judgment))
            if text is not None and len(texts) < (self.config.most or scores.shape[1]):
                texts.setdefault(text, float(scores[place or 0, judgment]))
        own = list(texts) if len(texts) > 1 else []
        question = JUDGE_PROMPTS[self.config.language_model.question]
        shown = [dict(message) for message in render_task(question, task, "given", self.meta_judge.asking.tokens)]
        row = {"id": task.id, "response": place, "prompt": shown, "judgments": own,
               "scores": [texts[text] for text in own]}
        return row, JudgmentSet(task.prompt, task.responses[0], own)


def to_record(answer: Given) -> dict[str, Any]:
    """An answer of the meta-judge as it is written."""
    return {"kind": type(answer).__name__.lower(), "order": answer.order, "text": answer.text,
            "score": answer.score if isinstance(answer, Judgment) else None}


def read_jsonl_tolerant(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a file by id; what a killed process left of a line is passed over."""
    rows: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            rows[row["id"]] = row
    return rows


def read_battles(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a folder of `run_meta_judging`."""
    with (Path(folder) / BATTLES).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
