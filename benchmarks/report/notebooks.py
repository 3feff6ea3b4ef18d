"""Execute a notebook again, on the committed results or on new measurements.

    python -m benchmarks.report.notebooks NAME [--measure] [--fast]

By default the outputs are written from benchmarks/results. `--measure` first runs the commands that produced the
results the notebook shows (hours, for some; data files are looked up in the folder named by RMKIT_DATA). `--fast` runs
a miniature of the study in minutes, without data, and does not write the notebook.
"""

import argparse
import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

from benchmarks.report.tables import ROOT, read_results

NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*/*.ipynb"))}
SHOWN = {  # results shown beside results/NAME.json
    "preference_strength": ("ensembles",), "denoising": ("gold", "ukp"), "metarm": ("metarm_cost", "iterative_rlhf"),
}
PARAMETERS = "parameters"  # tag of the cell that sets `fast`, as in papermill


def load_figures(name: str, fast: bool) -> dict[str, Any]:
    """The figures of results/NAME.json or, with `fast`, those that `study_fast` of the study's module computes."""
    if not fast:
        figures: dict[str, Any] = read_results(name)["figures"]
        return figures
    module = importlib.import_module(f"benchmarks.{NOTEBOOKS[name].parent.name}.{name}")
    with TemporaryDirectory() as folder:
        figures = module.study_fast(Path(folder))
    return figures


def run_notebook(name: str, *, fast: bool = False) -> Any:
    """Execute a notebook from the repository root and return it with new outputs."""
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    for cell in notebook.cells:
        if PARAMETERS in cell.metadata.get("tags", []):
            cell.source = f"fast = {fast}"
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # progress bars and warnings name folders of this machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def measure(name: str) -> None:
    """Run the recorded commands of all results that a notebook shows."""
    data = Path(os.environ.get("RMKIT_DATA", "."))
    for results in (name, *SHOWN.get(name, ())):
        words = shlex.split(read_results(results)["command"])
        words = [str(data / word) if (data / word).is_file() else word for word in words]
        subprocess.run([sys.executable, *words[1:]], check=True, cwd=ROOT)


def main() -> None:
    """Execute the notebook and, unless `--fast` is given, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(NOTEBOOKS))
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    if options.measure:
        measure(options.name)
    notebook = run_notebook(options.name, fast=options.fast)
    if not options.fast:
        nbformat.write(notebook, NOTEBOOKS[options.name])


if __name__ == "__main__":
    main()
