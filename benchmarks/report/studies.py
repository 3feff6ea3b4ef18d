"""What the tables of the studies that have a notebook share, and the contrastive study's answer in a line."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contrastive.contrastive import estimate_mean
from benchmarks.label_repair.trial import show
from benchmarks.report.tables import show_gain

MAIN_TEST = {"gold": "gold", "ukp_convarg1": "held_out"}
WORLDS = {"gold": "Gold world", "ukp_convarg1": "UKPConvArg1", "ultrafeedback_sample": "UltraFeedback",
          "pandalm_test": "PandaLM"}
WAYS = ("symmetric, in-sample", "symmetric, cross-fitted", "bradley_terry, in-sample", "bradley_terry, cross-fitted")


def make_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def compare(entry: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """By how much one figure is above another of the same seeds, with the 95 % t-interval of the paired differences."""
    return estimate_mean([one - two for one, two in zip(entry["values"], other["values"], strict=True)])


def answer_contrastive(figures: Mapping[str, Any]) -> str:
    """What the contrastive terms gain, in a line."""
    parts = []
    for name, study in figures.items():
        test = "gold" if name == "gold" else "held_out"
        gains = "; ".join(f"{arm.removeprefix('BT + ')} {show_gain(gains[test])}"
                          for arm, gains in study["gain"].items() if arm.startswith("BT + "))
        world = {"ukp": "UKPConvArg1, held-out topics", "gold": "Gold world"}[name]
        parts.append(f"{world}: plain BT {show(study['accuracy']['BT'][test])} %; gains in points: {gains}")
    return ". ".join(parts) + "."
