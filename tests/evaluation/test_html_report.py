"""The HTML report of stage folders like those of a real run."""

import html.parser
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from rmkit.commands.report import ReportConfig, report
from rmkit.core.checks import InputError
from rmkit.core.stage import open_stage, read_record
from rmkit.evaluation.html_report import ACTIONS, ROWS, compare_to_baseline
from rmkit.evaluation.reward_model import evaluate_pairs
from rmkit.evaluation.tables import get_path
from rmkit.preferences.repair import RECIPES

Build = Callable[..., ReportConfig]

PAIRS, MEMBERS = 400, 10
HOSTILE = '<script>alert(1)</script> </pre><img src=http://evil.example/x onerror=alert(2)> {{ 7 * 7 }} & "quoted"'
ANSWERS = ["Blot it, do not rub.\n\n1. Vinegar.\n2. Cold water.", "I am not sure.", "Blue light is scattered."]


def message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def write_stage(
    folder: Path, name: str, config: dict[str, Any], record: dict[str, Any], **splits: list[dict[str, Any]]
) -> str:
    """A finished stage as the other commands leave it."""
    with open_stage(folder, name, config, {}) as stage:
        for split, rows in splits.items():
            parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{split}.parquet")
        stage.record.update(record)
    return str(folder)


def vote_rows(flips: bool, hostile: bool) -> list[dict[str, Any]]:
    generator = np.random.default_rng(7)
    rows = []
    for index in range(PAIRS):
        flipped = bool(generator.random() < 0.25)
        centre = float(generator.normal(0.9, 0.9)) * (-1 if flipped else 1)
        rejected = generator.normal(0.0, 0.4, MEMBERS)
        gaps = centre + generator.normal(0.0, 0.3 + 0.15 * abs(centre), MEMBERS)
        prompt = message("user", f"What now? ({index})")
        if index % 3 == 0:
            prompt = message("user", "Hello.") + message("assistant", "Hello, how can I help?") + prompt
        rows.append({
            "id": f"pair-{index:04}", "prompt": prompt,
            "chosen": message("assistant", HOSTILE if hostile else ANSWERS[index % 3]),
            "rejected": message("assistant", ANSWERS[(index + 1) % 3]),
            "source": f"forum/{'ab'[index % 2]}.v1", "rewards_chosen": (rejected + gaps).tolist(),
            "rewards_rejected": rejected.tolist(), "strength_mean": float(gaps.mean()),
            "strength_std": float(gaps.std()), "agreement": float(np.mean(gaps > 0)),
            **({"is_flipped": flipped} if flips else {}),
        })
    return rows


def history(level: float) -> list[dict[str, float]]:
    log = [{"step": step, "loss": 0.45 + level / step, "learning_rate": 1e-5} for step in range(10, 310, 10)]
    log += [{"step": step, "eval_loss": 1.2 - level, "eval_accuracy": level - 1 / step} for step in range(50, 350, 50)]
    return [*log, {"step": 300, "train_runtime": 12.0, "train_loss": 0.5}]


def measure(centre: float, pairs: int = 600) -> dict[str, Any]:
    generator = np.random.default_rng(3)
    strength = generator.normal(0.0, 1.0, pairs)
    gaps = 0.7 * strength + generator.normal(0.0, 0.7, pairs) + centre
    lengths = generator.integers(40, 400, (2, pairs))
    return evaluate_pairs(
        gaps, np.zeros(pairs), prompts=np.arange(pairs) // 2, n_bootstrap=200,
        sources=np.array(["forum/a.v1", "forum/b.v1"])[np.arange(pairs) % 2],
        chosen_lengths=lengths[0], rejected_lengths=lengths[1], strength=strength,
    )


@pytest.fixture
def run(tmp_path: Path) -> Build:
    """run(...): a whole run's stage folders, and the configuration that reports on them."""

    def build(*, flips: bool = True, hostile: bool = False) -> ReportConfig:
        rows = vote_rows(flips, hostile)
        lowest = sorted(rows, key=lambda row: row["strength_mean"])[: PAIRS // 4]
        flipped, dropped = {row["id"] for row in lowest}, lowest[0]["id"]
        repaired = [{"id": row["id"], "action": "flip+margin" if row["id"] in flipped else "keep+margin"}
                    for row in rows if row["id"] != dropped]
        read = {"rows_in": 472, "rows_out": {"train": 400, "validation": 60}, "prompts_truncated": 17,
                "quarantined": {"chosen equal to rejected": 9, "bad JSON": 3}}
        vote = {"voters": "heads", "members": MEMBERS, "loss": "symmetric", "voting": "cross-fitted",
                "noise_rate": {"rate": 0.2637, "low": 0.2211, "high": 0.3049},
                "flip_auroc": 0.9127 if flips else None}
        tried = [("flip", 0.1, 0.6312), ("flip+margin", 0.25, 0.6544), ("drop", 0.25, 0.6401)]
        repair = {"recipe": "flip+margin", "fraction": 0.25, "label_smoothing": 0.2, "chosen_by": "validation accuracy",
                  "actions": {"keep+margin": 300, "flip+margin": 99, "drop": 1},
                  "candidates": [{"recipe": recipe, "fraction": fraction, "validation_accuracy": accuracy}
                                 for recipe, fraction, accuracy in tried]}
        logs = {"robust": history(0.83), "plain": history(0.72)}
        return ReportConfig(
            output_dir=str(tmp_path / "report"),
            pairs=write_stage(tmp_path / "read", "read", {"seed": 5}, read),
            votes=write_stage(tmp_path / "votes", "vote", {"seed": 11, "note": HOSTILE}, vote, train=rows),
            repaired=write_stage(tmp_path / "repaired", "repair", {}, repair, train=repaired,
                                 dropped=[{"id": dropped, "action": "drop"}]),
            models={name: write_stage(tmp_path / name, "train", {"of": name}, {"log_history": log})
                    for name, log in logs.items()},
            evaluation=write_stage(tmp_path / "evaluation", "evaluate", {"seed": 0},
                                   {"metrics": {"robust": measure(1.1), "plain": measure(0.4)}}),
        )

    return build


class Page(html.parser.HTMLParser):
    """The page's tags with their attributes, and the text and `<data>` elements of each section."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.source = (folder / "report.html").read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.data: dict[str, list[tuple[float, str]]] = {}
        self.section, self.value = "", ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        if tag == "data":
            self.value = dict(attrs)["value"] or ""

    def handle_endtag(self, tag: str) -> None:
        self.section = "" if tag == "section" else self.section

    def handle_data(self, data: str) -> None:
        self.text[self.section] = self.text.get(self.section, "") + data
        if self.value:
            self.data.setdefault(self.section, []).append((float(self.value), data))
            self.value = ""

    def numbers(self) -> set[float]:
        return {value for section in self.data.values() for value, _ in section}


def numbers_in(content: Any) -> set[float]:
    """Every number in nested records."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return {number for part in content for number in numbers_in(part)}
    return {float(content)} if isinstance(content, int | float) else set()


def stage_numbers(config: ReportConfig) -> set[float]:
    """Every number that the page may show: those in the records, and those derived from the rows."""
    folders = [config.pairs, config.votes, config.repaired, config.evaluation, *config.models.values()]
    numbers = numbers_in([read_record(folder) for folder in folders if folder])
    rows = parquet.read_table(Path(config.votes) / "train.parquet").to_pylist()
    worst = sorted(rows, key=lambda row: row["strength_mean"])[: config.n_suspicious]
    lowest = {row["id"] for row in sorted(rows, key=lambda row: row["strength_mean"])[: PAIRS // 4]}
    numbers |= {PAIRS, 460, 399, sum(row["strength_mean"] < 0 for row in rows) / PAIRS, 100, 100 / PAIRS, len(worst)}
    flipped = [row for row in rows if row.get("is_flipped")]
    numbers |= {len(flipped), len(flipped) / PAIRS, sum(row.get("is_flipped", False) for row in worst)}
    kept, exchanged = (sum(test(row["id"]) for row in flipped) for test in (
        lambda name: name not in lowest, lambda name: name in lowest - {worst[0]["id"]}))
    by_action = {"keep+margin": kept, "flip+margin": exchanged, "drop": 1}
    for action, number in {"keep+margin": 300, "flip+margin": 99, "drop": 1}.items():
        numbers |= {number / PAIRS, by_action[action], by_action[action] / number}
    for row in worst:
        gaps = np.subtract(row["rewards_chosen"], row["rewards_rejected"])
        numbers |= {row["strength_mean"], row["strength_std"], row["agreement"], *gaps.tolist()}
        numbers |= {float(np.mean(row["rewards_chosen"])), float(np.mean(row["rewards_rejected"]))}
    return numbers


def test_every_number_shown_comes_from_the_stages(run: Build) -> None:
    config = run()
    page = Page(report(config))
    ends_of_axis = {tenth / 10 for tenth in range(11)}
    assert page.numbers() - stage_numbers(config) <= ends_of_axis
    wanted = {"pairs": ["rows_in", "rows_out", "quarantined", "prompts_truncated"], "evaluation": [],
              "votes": ["members", "noise_rate", "flip_auroc"],
              "repaired": ["fraction", "label_smoothing", "actions", "candidates"]}
    for role, keys in wanted.items():
        record = read_record(getattr(config, role)) or {}
        assert numbers_in([record[key] for key in keys]) <= page.numbers(), role
    for metrics in (read_record(config.evaluation or "") or {})["metrics"].values():
        values = [get_path(metrics, path) for _, _, _, path in ROWS]
        values += [metrics[key] for key in ("pairs", "accuracy_low", "accuracy_high", "by_strength", "by_confidence")]
        values += [part["accuracy"] for part in metrics["by_source"].values()]
        ties = {group["tie_rate"] for key in ("by_strength", "by_confidence") for group in metrics[key]}
        assert numbers_in(values) - ties <= {value for value, _ in page.data["summary"] + page.data["evaluation"]}


def test_text_of_every_number_is_its_rounded_value(run: Build) -> None:
    for value, text in [pair for section in Page(report(run())).data.values() for pair in section]:
        digits = text.replace("\N{MINUS SIGN}", "-").replace(",", "").replace("\N{NO-BREAK SPACE}%", "")
        scale = 100 if text.endswith("%") else 1
        places = len(digits.partition(".")[2])
        assert float(digits) == pytest.approx(scale * value, abs=0.5001 * 10**-places), text


def test_the_page_is_self_contained_and_hostile_text_stays_text(run: Build) -> None:
    config = run(hostile=True)
    config.models = {"<b>$x$": config.models["robust"], "plain": config.models["plain"]}
    page = Page(report(config))
    assert HOSTILE in page.text["suspicious"] and json.dumps(HOSTILE) in page.text["provenance"]
    assert "<b>$x$" in page.text["training"] and "<b>$x$" not in page.source
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    links = [value or "" for _, attributes in page.tags for name, value in attributes.items()
             if name in ("src", "href", "xlink:href", "srcset", "data", "action", "background")]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert links and all(link.startswith("#") and link[1:] in ids for link in links)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)", page.source))
    assert "@import" not in page.source


def test_the_page_is_deterministic_and_a_finished_one_is_left_alone(run: Build) -> None:
    config = run()
    page = report(config) / "report.html"
    first = page.read_text(encoding="utf-8")
    shutil.rmtree(config.output_dir)
    assert report(config) == page.parent and page.read_text(encoding="utf-8") == first
    page.write_text("kept", encoding="utf-8")
    assert report(config) == page.parent and page.read_text(encoding="utf-8") == "kept"


def test_suspicious_pairs_are_in_order_of_strength(run: Build) -> None:
    config = run()
    page = Page(report(config))
    rows = parquet.read_table(Path(config.votes) / "train.parquet").to_pylist()
    worst = [row["id"] for row in sorted(rows, key=lambda row: row["strength_mean"])[:20]]
    assert re.findall(r"pair-\d{4}", page.text["suspicious"]) == worst
    assert page.text["suspicious"].count("Chosen, rejected after the repair") == 19  # the first one was dropped
    config.n_suspicious = 2
    assert re.findall(r"pair-\d{4}", Page(report(config)).text["suspicious"]) == worst[:2]


def test_missing_parts_are_named(run: Build) -> None:
    config = run(flips=False)
    config.pairs = config.repaired = config.evaluation = None
    config.models = {}
    page = Page(report(config))
    for section in ("repair", "training", "evaluation"):
        assert re.search(r"No [a-z ]+ was given", page.text[section])
    assert "is_flipped" not in page.source.partition("<body>")[2]


def test_missing_metrics_and_baseline(run: Build) -> None:
    config = run()
    record = read_record(config.evaluation or "") or {}
    for metrics in record["metrics"].values():
        metrics.update(by_strength=None, accuracy_low=None, accuracy_high=None)
        del metrics["by_confidence"]
    (Path(config.evaluation or "") / "stage.json").write_text(json.dumps(record))
    config.baseline = "ordinary"
    page = Page(report(config))
    assert "no accuracy by strength" in page.text["evaluation"] and "no interval" in page.text["evaluation"]
    assert "No model named ordinary was evaluated" in page.text["summary"]


def test_intervals_are_compared_with_chance_and_baseline() -> None:
    intervals = {"plain": (0.6, 0.7), "touching": (0.7, 0.8), "above": (0.71, 0.8), "half": (0.5, 0.5), "low": (0, 0.4)}
    metrics = {name: {"accuracy_low": low, "accuracy_high": high} for name, (low, high) in intervals.items()}
    comparisons = compare_to_baseline(metrics, "plain").values()
    assert [comparison["against"] for comparison in comparisons] == [None, "overlap", "above", "below", "below"]
    assert [comparison["chance"] for comparison in comparisons] == [None, None, None, "near", "below"]


def test_every_action_is_explained() -> None:
    assert {recipe.label for recipe in RECIPES.values()} <= set(ACTIONS)


def test_folders_that_are_no_stages(run: Build, tmp_path: Path) -> None:
    config = run()
    config.evaluation = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match="evaluation .*nowhere: expected the folder of a finished stage"):
        report(config)
    config.evaluation, config.votes = None, config.repaired or ""
    with pytest.raises(InputError, match="none with strength_mean, strength_std"):
        report(config)
    assert not (tmp_path / "report" / "report.html").exists()
    with pytest.raises(InputError, match="n_suspicious"):
        ReportConfig(output_dir="x", votes="y", n_suspicious=0)
