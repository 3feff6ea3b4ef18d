"""The one shape of a benchmark's file of results: figures, and all that is needed to get them again."""

import importlib.metadata
import json
import os
import platform
import re
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
    spec = sys.modules["__main__"].__spec__  # its name is the module after `python -m`
    arguments = [Path(word).name if Path(word).is_file() else word for word in sys.argv[1:]]  # data files by name
    write_json(path, {
        "command": shlex.join(["python", "-m", spec.name if spec else sys.argv[0], *arguments]),
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


def keep(path: Path, compute: Callable[[], Any]) -> Any:
    """What is in the file at `path`, computed and written there first if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, compute())
    return json.loads(path.read_text())


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation (ddof 1) over seeds, with the values themselves."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "values": list(values)}


def name_processor() -> str:
    """The processor's model as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return model[1].strip() if model else platform.processor()
