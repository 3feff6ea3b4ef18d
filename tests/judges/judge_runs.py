"""Runs of `rmkit judge`, and what they wrote."""

import json

import pytest
from datasets import Dataset

from rmkit.commands.judge import JudgeConfig, judge
from rmkit.core.config import load_config
from rmkit.core.stage import read_record


def configure(data, tmp_path, *words, **settings):
    config = {"data": data, "output_dir": tmp_path / "out", "n_bootstrap": 200, **settings}
    given = [str(word) for key, value in config.items() for word in (f"--{key}", value)]
    return load_config(JudgeConfig, None, [*given, *words])


LLM = ("--judge.kind", "llm", "--judge.model_name_or_path", "none")


def run(config):
    folder = judge(config)
    report = json.loads((folder / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read_record(folder)["report"] == report
    return report, Dataset.from_parquet(str(folder / "judgments.parquet")).to_list()
