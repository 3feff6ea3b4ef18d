"""The hearing: tasks are put to the judge some rows at a time, and every answer is kept on disk as it comes."""

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from tqdm import tqdm

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import Stage, open_stage, write_json
from rmkit.data.sources import find_files
from rmkit.judges.base import Failed, Given, Judge, JudgeTask, Judgment, Unparsed
from rmkit.judges.config import PENDING, JudgeConfig, build_judge, list_settings, sample_calibration_rows
from rmkit.judges.report import build_report, format_report, write_ensemble, write_judgments
from rmkit.judges.tasks import QUARANTINE, is_table, list_tasks, load_table, read_responses, read_rows, refuse_equal_ids

ANSWERS = "answers.jsonl"
KINDS = {"judgment": Judgment, "unparsed": Unparsed, "failed": Failed}
NAMES = {kind: name for name, kind in KINDS.items()}


def judge(config: JudgeConfig) -> Path:
    """Write `judgments.parquet`, an answer a row, and `report.json`, print the report; returns the stage's folder.

    Of reward models also `ensemble.parquet`, a response a row: `task`, and the members' `mean`, their `spread` and the
    `conservative` score, as `summarise_members` has them on the stated scale.
    Raises `InputError` when answers failed and `allow_failures` is not set; all others are kept.
    """
    inputs: dict[str, str | Path] = {"data": config.data}
    if config.language_model is None:
        inputs |= {f"models.{name}": path for name, path in config.reward_models.models.items()}
    elif config.language_model.base_url is None:
        inputs["model"] = config.language_model.model_name_or_path
    table = load_table(config.data, config.split) if is_table(config.data, config.split) else None
    if table is None:
        find_files(config.data)  # an unreadable one is refused before the output folder is touched
    with open_stage(config.output_dir, "judge", list_settings(config), inputs) as stage:
        if not stage.done:
            try:
                fill(stage, config, table)
            except OSError as error:
                raise_input_error(
                    f"judge: output_dir {config.output_dir}", "a disk that can be written", Verbatim(error), "Free it."
                )
        print("rows in {rows_in} = rows out {rows_out} + quarantined {quarantined}".format(**stage.record))
        print(format_report(stage.record["report"]))
    (stage.directory / ANSWERS).unlink(missing_ok=True)  # sealed, the stage needs it no more
    return stage.directory


def fill(stage: Stage, config: JudgeConfig, table: Dataset | None) -> None:
    """Hear the judge on what is in `table`, or on what `config.data` holds as it came, and report on it."""
    rows = read_responses(config.data, config.split, stage.directory) if table is None else table
    refuse_equal_ids(rows)
    journal = AnswerLog(stage.directory / ANSWERS)
    run_judge(config, rows, stage.directory, journal)
    write_judgments(journal, stage.directory / "judgments.parquet")
    if config.reward_model is not None:
        write_ensemble(journal, stage.directory / "ensemble.parquet", k=config.reward_model.k)
    report = build_report(config, rows, journal)
    write_json(stage.directory / "report.json", report)
    aside = stage.directory / QUARANTINE
    quarantined = len(aside.read_bytes().splitlines()) if aside.exists() else 0
    stage.record.update(rows_in=len(rows) + quarantined, rows_out=len(rows), quarantined=quarantined, report=report)


def run_judge(config: JudgeConfig, rows: Dataset, folder: Path, journal: "AnswerLog") -> None:
    """Put to the judge what it has not answered yet.

    Raises `InputError` where nothing in `rows` can be put to it, and when answers failed, unless that is accepted.
    """
    heard = journal.heard.keys() - (() if config.allow_failures else journal.failed)
    every = tqdm(read_rows(rows), "Judging", len(rows), unit="row")
    missing = (left for row in every
               if (left := [task for task in list_tasks(row, config.responses) if task.id not in heard]))
    blocks = iter(lambda: list(itertools.islice(missing, config.at_once)), [])
    block = next(blocks, None)
    pending = folder / PENDING
    if block is None:
        if not heard:
            raise_input_error(
                "data",
                f"a row with {config.responses} responses or more",
                Verbatim("none"),
                "A comparison is of two responses to one prompt; other questions score each.",
            )
        pending.unlink(missing_ok=True)
        return
    reference = rows.select(sample_calibration_rows(len(rows), derive_seed(config.seed, "reference")))
    appointed = build_judge(config, [task for row in read_rows(reference) for task in list_tasks(row, 1)], folder)
    failures: list[str] = []
    kept = file_size(pending)
    for some in itertools.chain([block], blocks):
        failed = run_batch(config, appointed, list(itertools.chain(*some)), journal)
        if failed:
            kept = file_size(pending)  # what came of its answers waits for the run that asks for the others again
        elif file_size(pending) > kept:
            os.truncate(pending, kept)  # what is in the journal need not be kept twice
        failures += failed
    if failures and not config.allow_failures:
        raise_input_error(
            "judge",
            "an answer to every question",
            Verbatim(f"{len(failures)} failures, the first: {failures[0]}"),
            "The same command asks again for these alone; --allow_failures goes on without them.",
        )
    pending.unlink(missing_ok=True)


def run_batch(config: JudgeConfig, appointed: Judge, tasks: Sequence[JudgeTask], journal: "AnswerLog") -> list[str]:
    """Put tasks to the judge and keep their answers, but for failures that are not accepted; the failures' reasons."""
    started = time.perf_counter()
    answers = appointed.judge(tasks)
    failed = [given.reason for each in answers for given in each if isinstance(given, Failed)]
    whole = [(task, each) for task, each in zip(tasks, answers, strict=True)
             if config.allow_failures or not any(isinstance(given, Failed) for given in each)]
    journal.add(whole, time.perf_counter() - started)
    return failed


def file_size(file: Path) -> int:
    """The bytes in a file, if there is one."""
    return file.stat().st_size if file.exists() else 0


class AnswerLog:
    """Answers by task in a JSON-lines file, a block of them at a time, with the seconds that it took.

    `heard`: where in the file each task's answers stand, the last where they came twice; `failed`: the tasks of which
    an answer failed, and that was accepted; `seconds`: all blocks'. What a killed process left of a line is passed
    over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: dict[str, int] = {}
        self.failed: set[str] = set()
        self.seconds = 0.0
        if path.exists():
            with path.open("rb") as file:
                place = 0
                for line in file:
                    self.note(line, place)
                    place += len(line)

    def note(self, line: bytes, place: int) -> None:
        """Remember what stands at a place in the file."""
        try:
            content = json.loads(line)
        except ValueError:
            return
        self.seconds += content.get("seconds", 0.0)
        if "task" in content:
            self.heard[content["task"]] = place
            self.failed.discard(content["task"])
            if any(answer["kind"] == "failed" for answer in content["answers"]):
                self.failed.add(content["task"])

    def add(self, answers: Sequence[tuple[JudgeTask, list[Given]]], seconds: float) -> None:
        """Keep the answers of some tasks; they are on disk when this returns."""
        contents: list[dict[str, Any]] = [
            {"task": task.id, "answers": [{"kind": NAMES[type(one)], **dataclasses.asdict(one)} for one in given]}
            for task, given in answers
        ]
        with self.path.open("ab") as file:
            file.write(b"\n")  # ends what a killed process left
            for content in [*contents, {"seconds": seconds}]:
                line = json.dumps(content).encode() + b"\n"
                self.note(line, file.tell())
                file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> Iterator[tuple[str, list[Given]]]:
        """Each task with its answers, in the order in which they were first heard."""
        with self.path.open("rb") as file:
            for task, place in self.heard.items():
                file.seek(place)
                answers = json.loads(file.readline())["answers"]
                yield task, [KINDS[answer.pop("kind")](**answer) for answer in answers]
