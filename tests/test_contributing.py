"""The examples of CONTRIBUTING.md, added as it says: a loss, a repair recipe and a judge."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from rmkit.judges import config as judge_config
from rmkit.losses import PAIR_LOSSES, get_pair_loss, pairwise
from rmkit.preferences import repair
from tests.judges.judge_runs import configure, run

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
LOSS, RECIPE, JUDGE_SETTINGS, JUDGE = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture
def add(monkeypatch):
    """add(module, code) runs code as if it stood at the end of the module; tables are restored afterwards."""
    saved = [(table, dict(table)) for table in (PAIR_LOSSES, repair.RECIPES, judge_config.JUDGES)]
    yield lambda module, code: exec(code, vars(module))
    for table, entries in saved:
        table.clear()
        table.update(entries)


def test_a_loss(add):
    add(pairwise, LOSS)
    loss = get_pair_loss("hinge", {"width": 2.0})
    assert loss(torch.tensor([0.5]), torch.tensor([0.0]), target=0.75).item() == 0.75 * 1.5 + 0.25 * 2.5


def test_a_recipe(add):
    from rmkit.commands.repair import RepairConfig

    add(repair, RECIPE)
    config = RepairConfig(votes="votes", output_dir="out", recipe="flip-negative")
    labels = repair.repair_labels(np.array([-1.0, 2.0]), recipe=config.recipe)
    assert labels.action.tolist() == ["flip+margin", "keep+margin"] and labels.margin.tolist() == [1.0, 2.0]


def test_a_judge(add, tiny_pairs, tmp_path, monkeypatch):
    module = types.ModuleType("rmkit.judges.length")
    exec(JUDGE, vars(module))
    monkeypatch.setitem(sys.modules, "rmkit.judges.length", module)
    add(judge_config, JUDGE_SETTINGS)
    tiny_pairs.to_parquet(tmp_path / "pairs.parquet")
    words = ("--judge.kind", "length", "--judge.highest", "9")
    _, judgments = run(configure(tmp_path / "pairs.parquet", tmp_path, *words))
    assert {row["score"] for row in judgments} == {8, 9}
