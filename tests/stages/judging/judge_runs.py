"""Runs of `rmkit judge` whose language model follows a script."""

import json
import re

import pytest
from datasets import Dataset

from rmkit.core.configuration import load_config
from rmkit.core.seeds import derive_seed
from rmkit.core.stages import read_record
from rmkit.models.generation import Completion, Generator
from rmkit.stages.judging import JudgeConfig, judge


class Scripted(Generator):
    """Answers by `script(material by tag, luck in [0, 1))`."""

    name = "script"

    def __init__(self, script):
        self.script = script
        self.asked = 0

    def complete(self, requests):
        for number, request in enumerate(requests):
            self.asked += 1
            shown = request.prompt[-1]["content"]
            found = re.findall(r"<([\w-]+)>\n(.*?)\n</\1>", shown, re.DOTALL)
            parts = {tag: text.replace("> ", "") for tag, text in found}
            answer = self.script(parts, derive_seed(request.seed, shown) / 2**31)
            yield number, Completion(answer, "stop", 50, 5) if isinstance(answer, str) else answer


def configure(data, tmp_path, *words, **settings):
    config = {"data": data, "output_dir": tmp_path / "out", "resamples": 200, **settings}
    given = [str(word) for key, value in config.items() for word in (f"--{key}", value)]
    return load_config(JudgeConfig, None, [*given, *words])


LANGUAGE = ("--language_model.model_name_or_path", "none")


def run(config):
    folder = judge(config)
    report = json.loads((folder / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read_record(folder)["report"] == report
    return report, Dataset.from_parquet(str(folder / "judgments.parquet")).to_list()
