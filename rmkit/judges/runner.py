"""Asks a judge about the rows of a table, a batch at a time; answers are written to disk as they come."""

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm import tqdm

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.data.resumable import append_jsonl
from rmkit.generation import Failed
from rmkit.judges.base import Judge, JudgeAnswer, JudgeSpec, JudgeTask, Judgment, Unparsed
from rmkit.judges.language_model import PENDING
from rmkit.judges.report import JUDGMENTS, write_ensemble, write_judgments
from rmkit.judges.results import PairwiseResults, collect_results
from rmkit.judges.tasks import iterate_rows, list_tasks

ANSWERS = "answers.jsonl"
CALIBRATION_ROWS = 128  # rows on whose responses a reward model's scale is fitted
CLASSES = {"judgment": Judgment, "unparsed": Unparsed, "failed": Failed}


def run_judge(rows: Dataset, folder: Path, spec: JudgeSpec, build: Callable[..., Judge], **run: Any) -> PairwiseResults:
    """Judge all rows and write `judgments.parquet` and, of an ensemble, `ensemble.parquet` into `folder`.

    `spec` and `build` are those of `load_judge`; `run` as for `answer_tasks`.
    """
    log = AnswerLog(folder / ANSWERS)
    answer_tasks(rows, log, spec, build, **run)
    write_judgments(log.read(), folder / JUDGMENTS, spec)
    results = collect_results(rows, log.read(), spec, log.seconds)
    if spec.members:
        write_ensemble(results, folder / "ensemble.parquet")
    return results


def answer_tasks(
    rows: Dataset, log: "AnswerLog", spec: JudgeSpec, build: Callable[..., Judge], *,
    batch_size: int, allow_failures: bool, seed: int, trust_remote_code: bool,
) -> None:
    """Ask the judge about every task of `rows` that the log has no answers to, `batch_size` rows at a time.

    The judge is built only if a task is left. Raises `InputError` if `rows` have no task for the judge and, after all
    others are answered, if answers failed, unless `allow_failures`.
    """
    folder = log.path.parent
    answered = log.offsets.keys() - (() if allow_failures else log.failed)
    missing = (tasks for row in tqdm(iterate_rows(rows), "Judging", len(rows), unit="row")
               if (tasks := [task for task in list_tasks(row, spec.responses) if task.id not in answered]))
    batches = iter(lambda: list(itertools.islice(missing, batch_size)), [])
    first = next(batches, None)
    pending = folder / PENDING
    failures: list[str] = []
    if first is not None:
        reference = rows.select(sample_calibration_rows(len(rows), derive_seed(seed, "reference")))
        judge = build(reference=[task for row in iterate_rows(reference) for task in list_tasks(row, 1)],
                      folder=folder, seed=seed, trust_remote_code=trust_remote_code)
        kept = file_size(pending)
        for batch in itertools.chain([first], batches):
            reasons = run_batch(judge, list(itertools.chain(*batch)), log, allow_failures)
            if reasons:
                kept = file_size(pending)  # the run that repeats the failed requests takes the other answers from it
            elif file_size(pending) > kept:
                os.truncate(pending, kept)  # these answers are in the log
            failures += reasons
    elif not answered:
        raise_input_error(
            "data",
            f"a row with {spec.responses} responses or more",
            Verbatim("none"),
            "A pairwise judge needs two responses to a prompt.",
        )
    if failures and not allow_failures:
        raise_input_error(
            "judge",
            "an answer to every question",
            Verbatim(f"{len(failures)} failures, the first: {failures[0]}"),
            "The same command repeats these alone; --allow_failures goes on without them.",
        )
    pending.unlink(missing_ok=True)


def run_batch(judge: Judge, tasks: Sequence[JudgeTask], log: "AnswerLog", allow_failures: bool) -> list[str]:
    """Judge tasks and log their answers, without those of which one failed unless allowed; the failures' reasons."""
    started = time.perf_counter()
    answers = judge.judge(tasks)
    reasons = [[answer.reason for answer in each if isinstance(answer, Failed)] for each in answers]
    log.add([(task, each) for task, each, failed in zip(tasks, answers, reasons, strict=True)
             if allow_failures or not failed], time.perf_counter() - started)
    return sum(reasons, [])


def sample_calibration_rows(rows: int, seed: int) -> list[int]:
    """A random sample of row indices, in order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:CALIBRATION_ROWS]).tolist()


def file_size(file: Path) -> int:
    """The bytes in a file, 0 if there is none."""
    return file.stat().st_size if file.exists() else 0


class AnswerLog:
    """Answers by task in a JSON-lines file, appended a batch at a time with the seconds that the batch took.

    offsets: where each task's answers are in the file, the last ones if there are several. failed: tasks with a failed
    answer. seconds: of all batches. A line that a killed process left unfinished is ignored.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offsets: dict[str, int] = {}
        self.failed: set[str] = set()
        self.seconds = 0.0
        self.size = 0
        path.touch()
        self.index_new_lines()

    def index_new_lines(self) -> None:
        """Note what the file holds after its first `size` bytes."""
        with self.path.open("rb") as file:
            file.seek(self.size)
            for line in file:
                offset, self.size = self.size, self.size + len(line)
                try:
                    content = json.loads(line)
                except ValueError:
                    continue
                self.seconds += content.get("seconds", 0.0)
                if "task" in content:
                    self.offsets[content["task"]] = offset
                    self.failed.discard(content["task"])
                    if any(answer["kind"] == "failed" for answer in content["answers"]):
                        self.failed.add(content["task"])

    def add(self, answers: Sequence[tuple[JudgeTask, list[JudgeAnswer]]], seconds: float) -> None:
        """Append the answers to some tasks; they are on disk when this returns."""
        append_jsonl(self.path, [
            *({"task": task.id, "answers": [{"kind": type(answer).__name__.lower(), **dataclasses.asdict(answer)}
                                            for answer in answers_of_task]} for task, answers_of_task in answers),
            {"seconds": seconds},
        ])
        self.index_new_lines()

    def read(self) -> Iterator[tuple[str, list[JudgeAnswer]]]:
        """Each task with its answers, in the order in which they were first answered."""
        with self.path.open("rb") as file:
            for task, offset in self.offsets.items():
                file.seek(offset)
                answers = json.loads(file.readline())["answers"]
                yield task, [CLASSES[answer.pop("kind")](**answer) for answer in answers]
