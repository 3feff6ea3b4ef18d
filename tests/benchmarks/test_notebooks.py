"""The notebooks define nothing, show a full run, and run in miniature from end to end."""

import ast

import nbformat
import pytest

from benchmarks.report import notebooks
from benchmarks.report.tables import RESULTS, ROOT, read_results

pytestmark = pytest.mark.slow
NAMES = list(notebooks.NOTEBOOKS)


def read_code(name):
    notebook = nbformat.read(notebooks.NOTEBOOKS[name], as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_defines_nothing_and_shows_a_full_run(name):
    cells = read_code(name)
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) for node in nodes)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(output.output_type == "display_data" for cell in cells for output in cell.outputs)
    assert not any("fast = True" in cell.source for cell in cells)
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_measure_runs_the_commands_of_all_results_shown(name, monkeypatch):
    code = "\n".join(cell.source for cell in read_code(name))
    shown = {name} | {path.stem for path in RESULTS.glob("*.json")
                      if f'read_results("{path.stem}")' in code or f"format_{path.stem}(" in code}
    commands = []
    monkeypatch.setattr(notebooks.subprocess, "run", lambda words, **_: commands.append(words))
    notebooks.measure(name)
    assert {words[2] for words in commands} == {read_results(result)["command"].split()[2] for result in shown}
    assert all((ROOT / f"{words[2].replace('.', '/')}.py").is_file() for words in commands)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "throughput"])  # which only reads results
def test_a_notebook_runs_in_miniature(name, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = notebooks.run_notebook(name, fast=True)
    parameters, first = (cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count in (1, 2))
    assert parameters.source == "fast = True"
    assert len(first.outputs[-1]["data"]["text/markdown"]) > 40
