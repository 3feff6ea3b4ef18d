"""The notebooks: thin, and each runs in miniature from end to end."""

import ast
from pathlib import Path

import nbformat
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NOTEBOOKS = sorted(path.stem for path in BENCHMARKS.glob("*.ipynb"))


def read_code(name):
    notebook = nbformat.read(BENCHMARKS / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_defines_nothing(name):
    for cell in read_code(name):
        defined = [node for node in ast.walk(ast.parse(cell.source))
                   if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)]
        assert not defined


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_outputs_are_those_of_a_full_run(name):
    cells = read_code(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(output.output_type == "display_data" for cell in cells for output in cell.outputs)
    assert not any("fast = True" in cell.source for cell in cells)
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell.outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_a_notebook_shows_is_measured(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import notebooks

    code = "\n".join(cell.source for cell in read_code(name))
    wanted = {name} | {place.stem for place in (BENCHMARKS / "results").glob("*.json")
                       if f'read_results("{place.stem}")' in code or f"format_{place.stem}(" in code}
    commands = []
    monkeypatch.setattr(notebooks.subprocess, "run", lambda words, **_: commands.append(words))
    notebooks.measure(name)
    assert {Path(words[1]).stem for words in commands} == wanted
    assert all((BENCHMARKS.parent / words[1]).is_file() for words in commands)


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name != "throughput"])  # which reads alone
def test_in_miniature(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTHONPATH", f"{BENCHMARKS}:{BENCHMARKS.parent}")
    from notebooks import run_notebook

    notebook = run_notebook(name, fast=True)
    parameters, first = (cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count in (1, 2))
    assert parameters.source == "fast = True"
    assert len(first.outputs[-1]["data"]["text/markdown"]) > 40  # the answer
