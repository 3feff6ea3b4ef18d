"""The audit's page against stage folders like those of a real run."""

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
from rmkit.core.stage import open_stage, read_record, write_json
from rmkit.evaluation.html_report import MEASURES, compare_to_baseline, explain_action, get_path
from rmkit.evaluation.reward_model import evaluate_pairs
from rmkit.preferences.repair import RECIPES

Build = Callable[..., ReportConfig]

PAIRS, MEMBERS = 400, 10
HOSTILE = '<script>alert(1)</script> </pre><img src=http://evil.example/x onerror=alert(2)> {{ 7 * 7 }} & "quoted"'
OPENINGS = ["How do I remove a coffee stain from a wool rug?", "Explain why the sky turns red at dusk.",
            "Write a short, friendly reminder about the rent.", "What should a beginner know before keeping bees?"]
ANSWERS = ["Blot it, do not rub. Mix a spoon of white vinegar with cold water, work from the edge of the stain "
           "inwards, and let the rug dry flat before you judge the result.",
           "I am not sure. It depends.",
           "Light from a low sun crosses more air. Blue light is scattered out on the way and red is what remains.\n\n"
           "1. More air, more scattering.\n2. Dust and smoke deepen the colour.",
           "Start with two colonies, a mentor and a notebook; " * 6]


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


def vote_rows(planted: bool, hostile: bool) -> list[dict[str, Any]]:
    generator = np.random.default_rng(7)
    rows = []
    for index in range(PAIRS):
        gap = float(generator.normal(0.9, 0.9))
        flipped = bool(generator.random() < 0.25)
        centre = -gap if flipped else gap
        rejected = generator.normal(0.0, 0.4, MEMBERS)
        gaps = centre + generator.normal(0.0, 0.3 + 0.15 * abs(gap), MEMBERS)
        text = HOSTILE if hostile else ANSWERS[index % 4]
        prompt = message("user", f"{OPENINGS[index % 4]} ({index})")
        if index % 3 == 0:
            prompt = message("user", "Hello.") + message("assistant", "Hello, how can I help?") + prompt
        rows.append({
            "id": f"pair-{index:04}", "prompt": prompt, "chosen": message("assistant", text),
            "rejected": message("assistant", "x" * 300 if index % 11 == 0 else ANSWERS[(index + 1) % 4]),
            "source": f"forum/{'ab'[index % 2]}.v1", "rewards_chosen": (rejected + gaps).tolist(),
            "rewards_rejected": rejected.tolist(), "strength_mean": float(gaps.mean()),
            "strength_std": float(gaps.std()), "agreement": float(np.mean(gaps > 0)),
            **({"is_flipped": flipped} if planted else {}),
        })
    return rows


def history(level: float, seed: int) -> list[dict[str, float]]:
    generator = np.random.default_rng(seed)
    log: list[dict[str, float]] = []
    for step in range(10, 310, 10):
        fall = float(np.exp(-step / 90))
        log.append({"step": step, "loss": 0.45 + 0.25 * fall + float(generator.normal(0, 0.02)), "learning_rate": 1e-5})
        if step % 50 == 0:
            log.append({"step": step, "eval_loss": 1.2 - level + 0.2 * fall, "eval_accuracy": level - 0.2 * fall})
    return [*log, {"step": 300, "train_runtime": 12.0, "train_loss": 0.5}]


def measure(edge: float, pairs: int = 600) -> dict[str, Any]:
    generator = np.random.default_rng(3)
    strength = generator.normal(0.0, 1.0, pairs)
    gaps = 0.7 * strength + generator.normal(0.0, 0.7, pairs)
    gaps += edge - np.median(gaps)
    lengths = generator.integers(40, 400, (2, pairs))
    metrics = evaluate_pairs(
        gaps, np.zeros(pairs), prompts=np.arange(pairs) // 2, n_bootstrap=200,
        sources=np.array(["forum/a.v1", "forum/b.v1"])[np.arange(pairs) % 2],
        chosen_lengths=lengths[0], rejected_lengths=lengths[1], strength=strength,
    )
    confidence = 1 / (1 + np.exp(-np.abs(gaps)))
    bins = [(confidence >= low) & (confidence < low + 0.05) for low in np.arange(0.5, 0.9, 0.05)]
    metrics["by_confidence"] = [
        {"pairs": int(inside.sum()), "confidence": float(confidence[inside].mean()),
         "accuracy": float((gaps[inside] > 0).mean())} for inside in bins
    ]
    return metrics


@pytest.fixture
def run(tmp_path: Path) -> Build:
    """A whole run's stage folders, and the configuration that audits them."""

    def build(*, planted: bool = True, hostile: bool = False, edges: tuple[float, float] = (0.4, 1.1)) -> ReportConfig:
        rows = vote_rows(planted, hostile)
        lowest = sorted(rows, key=lambda row: row["strength_mean"])[: PAIRS // 4]
        flipped, dropped = {row["id"] for row in lowest}, lowest[0]["id"]
        repaired = [{"id": row["id"], "action": "flip+margin" if row["id"] in flipped else "keep+margin"}
                    for row in rows if row["id"] != dropped]
        read = {"rows_in": 472, "rows_out": {"train": 400, "validation": 60}, "prompts_truncated": 17,
                "quarantined": {"chosen equal to rejected": 9, "bad JSON": 3}}
        vote = {"voters": "heads", "members": MEMBERS, "loss": "symmetric", "voting": "cross-fitted",
                "noise_rate": {"rate": 0.2637, "low": 0.2211, "high": 0.3049},
                "flip_auroc": 0.9127 if planted else None}
        tried = [("flip", 0.1, 0.6312), ("flip+margin", 0.25, 0.6544), ("drop", 0.25, 0.6401)]
        repair = {"recipe": "flip+margin", "fraction": 0.25, "label_smoothing": 0.2, "chosen_by": "validation accuracy",
                  "actions": {"keep+margin": 300, "flip+margin": 99, "drop": 1},
                  "candidates": [{"recipe": recipe, "fraction": fraction, "validation_accuracy": accuracy}
                                 for recipe, fraction, accuracy in tried]}
        logs = {"robust": history(0.83, 1), "plain": history(0.72, 2)}
        return ReportConfig(
            output_dir=str(tmp_path / "audit"),
            pairs=write_stage(tmp_path / "read", "read", {"seed": 5}, read),
            votes=write_stage(tmp_path / "votes", "vote", {"seed": 11, "note": HOSTILE}, vote, train=rows),
            repaired=write_stage(tmp_path / "repaired", "repair", {}, repair, train=repaired,
                                 dropped=[{"id": dropped, "action": "drop"}]),
            models={name: write_stage(tmp_path / name, "train", {"of": name}, {"log_history": log})
                    for name, log in logs.items()},
            evaluation=write_stage(tmp_path / "evaluation", "evaluate", {"seed": 0},
                                   {"metrics": {"robust": measure(edges[1]), "plain": measure(edges[0])}}),
        )

    return build


class Page(html.parser.HTMLParser):
    """What a browser would see: tags with their attributes, the text of each section, and the `<data>` in it."""

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
        return {value for found in self.data.values() for value, _ in found}


def numbers_in(content: Any) -> set[float]:
    """Every number in nested records."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        return {number for part in content for number in numbers_in(part)}
    return {float(content)} if isinstance(content, int | float) else set()


def stage_numbers(config: ReportConfig) -> set[float]:
    """Every number that the page may show: those in the records, and those that follow from the rows."""
    folders = [config.pairs, config.votes, config.repaired, config.evaluation, *config.models.values()]
    found = numbers_in([read_record(folder) for folder in folders if folder])
    rows = parquet.read_table(Path(config.votes) / "train.parquet").to_pylist()
    worst = sorted(rows, key=lambda row: row["strength_mean"])[: config.suspicious]
    lowest = {row["id"] for row in sorted(rows, key=lambda row: row["strength_mean"])[: PAIRS // 4]}
    found |= {PAIRS, 460, 399, sum(row["strength_mean"] < 0 for row in rows) / PAIRS, 100, 100 / PAIRS, len(worst)}
    planted = [row for row in rows if row.get("is_flipped")]
    found |= {len(planted), len(planted) / PAIRS, sum(row.get("is_flipped", False) for row in worst)}
    met = {"keep+margin": sum(row["id"] not in lowest for row in planted),
           "flip+margin": sum(row["id"] in lowest - {worst[0]["id"]} for row in planted), "drop": 1}
    for action, number in {"keep+margin": 300, "flip+margin": 99, "drop": 1}.items():
        found |= {number / PAIRS, met[action], met[action] / number}
    for row in worst:
        gaps = np.subtract(row["rewards_chosen"], row["rewards_rejected"])
        found |= {row["strength_mean"], row["strength_std"], row["agreement"], *gaps.tolist()}
        found |= {float(np.mean(row["rewards_chosen"])), float(np.mean(row["rewards_rejected"]))}
    return found


def test_every_number_shown_is_the_stages_own(run: Build) -> None:
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
        values = [get_path(metrics, path) for _, _, _, path in MEASURES]
        values += [metrics[key] for key in ("pairs", "accuracy_low", "accuracy_high", "by_strength", "by_confidence")]
        values += [part["accuracy"] for part in metrics["by_source"].values()]
        ties = {group["tie_rate"] for group in metrics["by_strength"]}
        assert numbers_in(values) - ties <= {value for value, _ in page.data["summary"] + page.data["evaluation"]}


def test_every_number_reads_as_its_value(run: Build) -> None:
    for value, text in [pair for found in Page(report(run())).data.values() for pair in found]:
        digits = text.replace("\N{MINUS SIGN}", "-").replace(",", "").replace("\N{NO-BREAK SPACE}%", "")
        scale = 100 if text.endswith("%") else 1
        places = len(digits.partition(".")[2])
        assert float(digits) == pytest.approx(scale * value, abs=0.5001 * 10**-places), text


def test_page_is_self_contained(run: Build) -> None:
    page = Page(report(run(hostile=True)))
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


def test_hostile_text_stays_text(run: Build) -> None:
    config = run(hostile=True)
    config.models = {"<b>$x$": config.models["robust"], "plain": config.models["plain"]}
    page = Page(report(config))
    assert HOSTILE in page.text["suspects"]
    assert json.dumps(HOSTILE) in page.text["provenance"]
    assert "<b>$x$" in page.text["training"]
    assert page.source.count("<script") == 0 and "<b>$x$" not in page.source


def test_page_fits_phone_and_reader_of_text(run: Build) -> None:
    page = Page(report(run()))
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    for rule in ("@media (max-width: 760px)", "overflow-wrap: anywhere", "prefers-color-scheme: dark"):
        assert rule in page.source
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawings) == 7
    assert all(drawing["role"] == "img" and drawing["aria-label"] and "width" not in drawing for drawing in drawings)


def test_same_stages_same_page(run: Build) -> None:
    config = run()
    first = Page(report(config)).source
    shutil.rmtree(config.output_dir)
    assert Page(report(config)).source == first
    config.suspicious = 3
    assert Page(report(config)).source != first


def test_finished_report_is_left_alone(run: Build) -> None:
    config = run()
    page = report(config) / "report.html"
    page.write_text("kept", encoding="utf-8")
    assert report(config) == page.parent
    assert page.read_text(encoding="utf-8") == "kept"


def test_suspects_come_in_order_with_what_was_done(run: Build) -> None:
    config = run()
    page = Page(report(config))
    rows = parquet.read_table(Path(config.votes) / "train.parquet").to_pylist()
    worst = [row["id"] for row in sorted(rows, key=lambda row: row["strength_mean"])[:20]]
    assert re.findall(r"pair-\d{4}", page.text["suspects"]) == worst
    assert page.text["suspects"].count("Chosen, rejected after the repair") == 19  # the first one was dropped
    config.suspicious = 2
    assert re.findall(r"pair-\d{4}", Page(report(config)).text["suspects"]) == worst[:2]


def test_missing_parts_are_said_to_be_missing(run: Build) -> None:
    config = run(planted=False)
    config.pairs = config.repaired = config.evaluation = None
    config.models = {}
    page = Page(report(config))
    assert "No repair was given" in page.text["repair"]
    assert "No trained model was given" in page.text["training"]
    assert "No evaluation was given" in page.text["evaluation"]
    assert "no repair given" in page.text["suspects"]
    assert "What was read" not in page.text["summary"]
    assert "is_flipped" not in page.source.partition("<body>")[2]


def test_missing_facts_are_said_to_be_missing(run: Build) -> None:
    config = run()
    records = {folder: read_record(folder) or {} for folder in (config.votes, config.evaluation or "")}
    records[config.votes].update(noise_rate=None, flip_auroc=None, voting="in-sample")
    for metrics in records[config.evaluation or ""]["metrics"].values():
        metrics.update(by_strength=None, accuracy_low=None, accuracy_high=None)
        del metrics["by_confidence"]
    for folder, record in records.items():
        write_json(Path(folder) / "stage.json", record)
    page = Page(report(config))
    assert "was not estimated" in page.text["summary"] and "AUROC" not in page.text["summary"]
    assert "trained on" in page.text["strength"]
    assert "no accuracy by strength" in page.text["evaluation"] and "no interval" in page.text["evaluation"]


@pytest.mark.parametrize("edges, said, unsaid", [
    ((0.4, 1.1), ["orders more pairs right"], ["overlap:", "chance"]),
    ((1.1, 0.4), ["orders fewer pairs right"], ["overlap:", "chance"]),
    ((0.40, 0.45), ["does not settle"], ["orders more", "chance"]),
    ((0.0, 0.0), ["does not settle", "near chance"], ["orders more", "below chance"]),
    ((0.0, -0.5), ["below chance"], ["orders more"]),
])
def test_page_says_what_the_intervals_allow(
    run: Build, edges: tuple[float, float], said: list[str], unsaid: list[str]
) -> None:
    text = Page(report(run(edges=edges))).text["summary"]
    assert all(words in text for words in said) and not any(words in text for words in unsaid)


def test_baseline_comes_first_or_is_missed(run: Build) -> None:
    config = run()
    text = Page(report(config)).text["evaluation"]
    assert "against plain" in text and text.index("plain") < text.index("robust")
    config.baseline = "ordinary"
    page = Page(report(config))
    assert "No model named ordinary was evaluated" in page.text["summary"]
    assert "orders more" not in page.text["summary"]


def test_verdicts_at_touching_intervals() -> None:
    intervals = {"plain": (0.6, 0.7), "touching": (0.7, 0.8), "above": (0.71, 0.8), "half": (0.5, 0.55)}
    metrics = {name: {"accuracy_low": low, "accuracy_high": high} for name, (low, high) in intervals.items()}
    verdicts = compare_to_baseline(metrics, "plain")
    assert [verdict["against"] for verdict in verdicts.values()] == [None, "overlap", "above", "below"]
    assert [verdict["chance"] for verdict in verdicts.values()] == [None, None, None, "near"]


def test_every_action_is_explained() -> None:
    labels = {recipe.label for recipe in RECIPES.values()}
    assert all(explain_action(label) for label in labels)
    assert explain_action("flip+margin") != explain_action("flip")


def test_refuses_what_is_no_stage(run: Build, tmp_path: Path) -> None:
    config = run()
    config.evaluation = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match="evaluation .*nowhere: expected the folder of a finished stage"):
        report(config)
    config.evaluation, config.votes = None, config.repaired or ""
    with pytest.raises(InputError, match="none with strength_mean, strength_std"):
        report(config)
    assert not (tmp_path / "audit" / "report.html").exists()
    with pytest.raises(InputError, match="suspicious"):
        ReportConfig(output_dir="x", votes="y", suspicious=0)
