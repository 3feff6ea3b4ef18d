"""`rmkit report`: the finished stages of one run as one HTML page."""

from pathlib import Path

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import configuration, option, output_settings
from rmkit.core.stage import open_stage, read_record

REPORT = "report.html"


@configuration
class ReportConfig:
    """Folders of finished stages to report on; only `votes` is required."""

    output_dir: str = option(help="Folder for the report.")
    votes: str = option(help="Folder of `rmkit vote`.")
    pairs: str | None = option(None, "Folder of `rmkit read`.")
    repaired: str | None = option(None, "Folder of `rmkit repair`.")
    models: dict[str, str] = option({}, "Folders of `rmkit train`: name -> folder, with the names of the evaluation.")
    evaluation: str | None = option(None, "Folder of `rmkit evaluate`.")
    baseline: str = option("plain", "Model that the others are compared with.")
    n_suspicious: int = option(20, "Pairs of lowest strength to show.", ge=1)


def report(config: ReportConfig) -> Path:
    """Write `report.html` and `stage.json` into `config.output_dir`; returns that folder.

    Raises `InputError` for a folder that holds no finished stage, or votes without an ensemble's strength.
    """
    from rmkit.evaluation.html_report import render_report

    roles = ("votes", "pairs", "repaired", "evaluation")
    folders = {role: getattr(config, role) for role in roles if getattr(config, role) is not None}
    folders |= {f"models.{name}": folder for name, folder in config.models.items()}
    records = {}
    for role, folder in folders.items():
        record = read_record(folder)
        if record is None:
            raise_input_error(
                f"{role} {folder}", "the folder of a finished stage", Verbatim("no stage.json in it"),
                "Run that stage first, or leave it out.",
            )
        records[role] = record
    with open_stage(config.output_dir, "report", output_settings(config), folders) as stage:
        if not stage.done:
            page = render_report(
                records, votes=config.votes, repaired=config.repaired, baseline=config.baseline,
                n_suspicious=config.n_suspicious,
            )
            (stage.directory / REPORT).write_text(page, encoding="utf-8")
            stage.record["report"] = REPORT
    print(f"report: {stage.directory / REPORT}")
    return stage.directory
