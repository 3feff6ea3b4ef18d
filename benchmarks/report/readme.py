"""Write the tables of README.md and benchmarks/README.md from benchmarks/results.

    python -m benchmarks.report.readme

Each table stands between `<!-- results: NAME -->` and `<!-- end -->`. The text around the tables is written by hand;
tests/benchmarks/test_results.py checks the numbers of both.
"""

import re
from collections.abc import Callable
from functools import partial

from benchmarks.report import judge_tables, label_tables, machine_tables, policy_tables
from benchmarks.report.tables import ROOT

PAGES = ("README.md", "benchmarks/README.md")
BLOCK = re.compile(r"(<!-- results: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
TABLES: dict[str, Callable[[], str]] = {
    name.removeprefix("format_"): function
    for module in (label_tables, policy_tables, judge_tables, machine_tables)
    for name, function in vars(module).items() if name.startswith("format_") and name != "format_sizes"
} | {
    "metarm_scratch": partial(policy_tables.format_metarm, "metarm_scratch"),
    "kills_loop": partial(machine_tables.format_kills, "kills_loop"),
}


def main() -> None:
    """Write the tables into both pages."""
    for page in PAGES:
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        path.write_text(BLOCK.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[4]}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
