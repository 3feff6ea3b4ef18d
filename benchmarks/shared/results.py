"""The one shape of a benchmark's file of results: figures, and all that is needed to get them again."""

import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rmkit.core.stage import versions, write_json

RESULTS = Path(__file__).parents[1] / "results"


def write_results(name: str, figures: Mapping[str, Any], *, seeds: Sequence[int], packages: Sequence[str] = ()) -> Path:
    """Write `benchmarks/results/NAME.json` with figures, seeds, command, versions, hardware and date.

    `packages` names what the benchmark compares with, so that their versions are on record too.
    """
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, {
        "command": shlex.join(["python", "-m", name_script(), *map(name_file, sys.argv[1:])]),
        "seeds": list(seeds),
        "versions": versions() | {package: importlib.metadata.version(package) for package in packages},
        "hardware": {
            "processor": name_processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "written": time.strftime("%Y-%m-%d"),
        "figures": figures,
    })
    return path


def name_script() -> str:
    """The module that is run: `python -m benchmarks.label_repair.ukp` gives `benchmarks.label_repair.ukp`."""
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else sys.argv[0]


def name_file(argument: str) -> str:
    """An argument as anyone could type it: a data file by its name, wherever it lies here."""
    return Path(argument).name if Path(argument).is_file() else argument


def keep(path: Path, compute: Callable[[], Any]) -> Any:
    """What is in the file at `path`, computed and written there first if there is none."""
    if not path.exists():
        write_json(path, compute())
    return json.loads(path.read_text())


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation (ddof 1) over seeds, with the values themselves."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "values": list(values)}


def name_processor() -> str:
    """The processor's model as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
