"""Run a notebook of this folder anew, from the results on record or from a measurement of its own.

    python benchmarks/notebooks.py NAME [--measure] [--fast]

Without more, the notebook's outputs are written anew from benchmarks/results. With --measure, the commands on record in
results/NAME.json, and in the other results that the notebook shows, are run before, in full (hours, for some; data
files are looked for in the folder that RMKIT_DATA names). With --fast, the notebook measures in miniature, within
minutes and without any data, and is not written.
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
from tables import ROOT, read_results

FOLDER = ROOT / "benchmarks"
SHOWN = {  # beside results/NAME.json
    "preference_strength": ("ensembles",), "denoising": ("gold", "ukp"), "metarm": ("metarm_cost", "iterative_rlhf"),
}
PARAMETERS = "parameters"  # the tag of the cell that `fast` stands in, as papermill has it


def load_figures(name: str, fast: bool) -> dict[str, Any]:
    """The figures of results/NAME.json or, fast, those of the study in miniature, `study_fast` of NAME.py."""
    if not fast:
        figures: dict[str, Any] = read_results(name)["figures"]
        return figures
    with TemporaryDirectory() as folder:
        figures = importlib.import_module(name).study_fast(Path(folder))
    return figures


def run_notebook(name: str, *, fast: bool = False) -> Any:
    """The notebook NAME.ipynb with new outputs."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    for cell in notebook.cells:
        if PARAMETERS in cell.metadata.get("tags", []):
            cell.source = f"fast = {fast}"
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # bars and warnings are of a run, and name its machine's folders
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def measure(name: str) -> None:
    """Run the commands on record of what a notebook shows, data files taken from the folder that RMKIT_DATA names."""
    data = Path(os.environ.get("RMKIT_DATA", "."))
    for results in (name, *SHOWN.get(name, ())):
        words = shlex.split(read_results(results)["command"])
        words = [str(data / word) if (data / word).is_file() else word for word in words]
        subprocess.run([sys.executable, *words[1:]], check=True, cwd=ROOT)


def main() -> None:
    """Run the notebook, and write it unless it was run in miniature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="such as preference_strength")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    if options.measure:
        measure(options.name)
    notebook = run_notebook(options.name, fast=options.fast)
    if not options.fast:
        nbformat.write(notebook, FOLDER / f"{options.name}.ipynb")


if __name__ == "__main__":
    main()
