"""`rmkit audit`: the finished stages of one run as one HTML page."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.stage import open_stage, read_record
from rmkit.evaluation.html_report import ReportInputs, render_report

REPORT = "report.html"


@dataclass
class ReportConfig:
    """Folders of finished stages; `votes` is needed, and the report says which of the others were not given.

    `models`: name -> folder of a train stage; the evaluation knows them by the same names, and `baseline` is the
    one that the others are held against. `pairs`: the folder of the read stage. `suspicious`: how many pairs of
    lowest strength to show.
    """

    output_dir: str
    votes: str
    pairs: str | None = None
    repaired: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    evaluation: str | None = None
    baseline: str = "plain"
    suspicious: int = 20

    def __post_init__(self) -> None:
        if self.suspicious < 1:
            raise_input_error("suspicious", "a number of pairs, 1 or more", self.suspicious, "20 is usual.")


def report(config: ReportConfig) -> Path:
    """Write `report.html` and `stage.json` into `config.output_dir`; returns that folder.

    Raises `InputError` for a folder that holds no finished stage, or that is not a votes folder.
    """
    parts = {"votes": config.votes, "pairs": config.pairs, "repaired": config.repaired, "evaluation": config.evaluation}
    folders = {role: folder for role, folder in parts.items() if folder is not None}
    folders |= {f"models.{name}": folder for name, folder in config.models.items()}
    records = {role: require_record(role, folder) for role, folder in folders.items()}
    with open_stage(config.output_dir, "audit", as_dict(config), folders) as stage:
        if not stage.done:
            page = render_report(collect_inputs(config, records))
            (stage.directory / REPORT).write_text(page, encoding="utf-8")
            stage.record["report"] = REPORT
    print(f"report: {stage.directory / REPORT}")
    return stage.directory


def require_record(role: str, folder: str) -> dict[str, Any]:
    """The record of a finished stage."""
    record = read_record(folder)
    if record is None:
        raise_input_error(
            f"audit: {role} {folder}",
            "the folder of a finished stage",
            Verbatim("no stage.json in it"),
            "Run that stage first, or leave it out.",
        )
    return record


def collect_inputs(config: ReportConfig, records: dict[str, dict[str, Any]]) -> ReportInputs:
    """Everything the page shows, read from the stages' folders."""
    path = Path(config.votes) / "train.parquet"
    columns = ["id", "strength_mean", "strength_std"]
    missing = set(columns) - (set(parquet.read_schema(path).names) if path.is_file() else set())
    if missing:
        raise_input_error(
            f"audit: votes {config.votes}",
            "a train.parquet with the votes of an ensemble",
            Verbatim(f"none with {', '.join(sorted(missing))}"),
            "Name the output_dir of `rmkit vote`.",
        )
    known = "is_flipped" in parquet.read_schema(path).names
    table = parquet.read_table(path, columns=columns + ["is_flipped"] * known)
    ids = table["id"].to_pylist()
    mean = table["strength_mean"].to_numpy()
    planted = np.array([bool(flag) for flag in table["is_flipped"].to_pylist()]) if known else None
    actions = read_actions(config.repaired) if config.repaired else {}
    lowest = [ids[index] for index in np.argsort(mean, kind="stable")[: config.suspicious]]
    rows = {row["id"]: row for row in parquet.read_table(path, filters=[("id", "in", lowest)]).to_pylist()}
    met: Counter[str] = Counter()
    if planted is not None:
        met.update(actions[pair] for pair, flag in zip(ids, planted, strict=True) if flag and pair in actions)
    return ReportInputs(
        votes=records["votes"],
        mean=mean,
        std=table["strength_std"].to_numpy(),
        suspects=[{**rows[pair], "action": actions.get(pair)} for pair in lowest],
        planted=planted,
        pairs=records.get("pairs"),
        repaired=records.get("repaired"),
        planted_by_action=met,
        models={name: records[f"models.{name}"] for name in config.models},
        evaluation=records.get("evaluation"),
        baseline=config.baseline,
    )


def read_actions(folder: str) -> dict[str, str]:
    """What the repair did to each pair, by id, the dropped ones among them."""
    actions: dict[str, str] = {}
    for name in ("train.parquet", "dropped.parquet"):
        path = Path(folder) / name
        if path.is_file():
            table = parquet.read_table(path, columns=["id", "action"])
            actions |= dict(zip(table["id"].to_pylist(), table["action"].to_pylist(), strict=True))
    return actions
