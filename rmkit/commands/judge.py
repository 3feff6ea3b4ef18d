"""`rmkit judge`: judge pairs or samples, and measure the judge."""

from pathlib import Path
from typing import Any

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, output_settings, section
from rmkit.core.stage import Stage, open_stage, write_json
from rmkit.judges.config import load_judge, resolve_judge


@configuration
class JudgeConfig:
    """Judge the pairs in a folder of `rmkit read`, or samples in any file that `rmkit score` reads.

    A killed run continues; requests that failed end the run, and the same command repeats them alone.
    """

    data: str = option(help="Folder with the split, or a file or dataset with `prompt` and `responses`.")
    output_dir: str = option(help="Output folder.")
    judge: dict[str, Any] = section(
        "rmkit.judges.config:JUDGES", "The judge: its `kind` (llm, reward_model or gold) and that kind's settings."
    )
    split: str = option("test", "Split to judge.")
    batch_size: int = option(64, "Rows that are judged together.", ge=1, affects_output=False)
    allow_failures: bool = option(False, "Finish without the answers that failed.", affects_output=False)
    n_bootstrap: int = option(1000, "Bootstrap samples of prompts for the intervals.", ge=1, advanced=True)
    seed: int = option(0, "Seed of sampling and of the bootstrap.")
    trust_remote_code: bool = option(False, "Run code that comes with the models.", advanced=True)

    def __post_init__(self) -> None:
        self.judge = resolve_judge(self.judge)


def judge(config: JudgeConfig) -> Path:
    """Write `judgments.parquet`, a row for each answer, and `report.json`; print the report; returns the folder.

    Reward models also write `ensemble.parquet`, a row for each response: `task` and the members' `ensemble_score`.
    Raises `InputError` if answers failed, unless `allow_failures`; all others are kept.
    """
    from rmkit.judges.report import format_report
    from rmkit.judges.runner import ANSWERS
    from rmkit.judges.tasks import load_table

    spec, build = load_judge(config.judge)
    inputs = {"data": config.data, **spec.models}
    rows = load_table(config.data, config.split)
    with open_stage(config.output_dir, "judge", output_settings(config), inputs) as stage:
        if not stage.done:
            try:
                write_outputs(stage, config, rows, spec, build)
            except OSError as error:
                raise_input_error(
                    f"judge: output_dir {config.output_dir}", "a disk that can be written", Verbatim(error), "Free it."
                )
        print("rows in {rows_in} = rows out {rows_out} + quarantined {quarantined}".format(**stage.record))
        print(format_report(stage.record["report"]))
    (stage.directory / ANSWERS).unlink(missing_ok=True)
    return stage.directory


def write_outputs(stage: Stage, config: JudgeConfig, rows: Any, spec: Any, build: Any) -> None:
    """Judge the rows, or those that are yet to be read from `config.data`, and write answers and report."""
    from rmkit.judges.report import build_report
    from rmkit.judges.runner import run_judge
    from rmkit.judges.tasks import QUARANTINE, check_unique_ids, read_responses

    if rows is None:
        rows = read_responses(config.data, config.split, stage.directory)
    check_unique_ids(rows)
    results = run_judge(rows, stage.directory, spec, build, batch_size=config.batch_size, seed=config.seed,
                        allow_failures=config.allow_failures, trust_remote_code=config.trust_remote_code)
    report = build_report(results, seed=config.seed, n_bootstrap=config.n_bootstrap)
    write_json(stage.directory / "report.json", report)
    rejected = stage.directory / QUARANTINE
    quarantined = len(rejected.read_bytes().splitlines()) if rejected.exists() else 0
    stage.record.update(rows_in=len(rows) + quarantined, rows_out=len(rows), quarantined=quarantined, report=report)
