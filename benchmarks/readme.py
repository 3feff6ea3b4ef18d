"""Write the tables of README.md from benchmarks/results, so that nobody types a result.

    python benchmarks/readme.py [--check]

With --check nothing is written, and the exit code says whether the README holds what the results say.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repair_study import format_table, show

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read_results(name: str) -> dict[str, Any]:
    """A results file."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def origin(results: Mapping[str, Any]) -> str:
    """Where a table comes from."""
    return f"`{results['command']}`, {results['hardware']['processor']}, {results['written']}."


def format_gold() -> str:
    """The gold world's tables."""
    results = read_results("gold")
    figures = results["figures"]
    parts = [
        f"{figures['sizes']['train']:,} training pairs, their labels drawn Bradley-Terry from the true gap; heads on "
        "the frozen features of a tiny language model. Accuracy on held-out pairs, percent; `gold` asks for the truly "
        f"better response, `in_distribution` for the label as drawn. {origin(results)}",
    ]
    for test in ("gold", "in_distribution"):
        parts.append(f"**{test}**\n\n{format_table(figures['by_rate'], test)}")
    kinds = ["| AUROC of planted flips | the true gap | symmetric, cross-fitted | symmetric, in-sample | "
             "bradley_terry, cross-fitted | bradley_terry, in-sample |", "|---|---|---|---|---|---|"]
    ways = ("ceiling", "symmetric, cross-fitted", "symmetric, in-sample", "bradley_terry, cross-fitted",
            "bradley_terry, in-sample")
    for kind, entries in figures["by_kind"].items():
        kinds.append(f"| {kind} | {' | '.join(show(entries[way], 1, 3) for way in ways)} |")
    parts.append("\n".join(kinds))
    if "fine_tuned" in figures:
        tests = list(next(iter(figures["fine_tuned"].values())))
        lines = [f"| RM fine-tuned by DeepSpeed on | {' | '.join(tests)} |", "|---" * (len(tests) + 1) + "|"]
        lines += [f"| {name} | {' | '.join(show(entries[test]) for test in tests)} |"
                  for name, entries in figures["fine_tuned"].items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def format_ukp() -> str:
    """UKPConvArg1's table."""
    results = read_results("ukp")
    figures = results["figures"]
    parts = [
        "Human judgements of which argument convinces more, 8 topics held out; heads on the frozen features of "
        f"all-MiniLM-L6-v2. Accuracy on the held-out topics, percent. {origin(results)}",
        format_table(figures["by_rate"], "held_out"),
        "Rank correlation of strength with the annotators' vote share, on the labels as they came: "
        + "; ".join(f"{way} {show(entry, 1, 3)}" for way, entry in figures["vote_share_correlation"].items()) + ".",
    ]
    return "\n\n".join(parts)


def format_hh() -> str:
    """The figures of the HH-RLHF run."""
    results = read_results("hh")
    figures = results["figures"]
    actions = ", ".join(f"{action} {count}" for action, count in figures["actions"].items())
    lines = ["| model | pairs | accuracy | 95 % interval |", "|---|---|---|---|"]
    for name, metrics in figures["metrics"].items():
        interval = f"[{metrics['accuracy_low']:.3f}, {metrics['accuracy_high']:.3f}]"
        lines.append(f"| {name} | {metrics['pairs']} | {metrics['accuracy']:.3f} | {interval} |")
    return "\n\n".join([
        f"`rmkit run` on {figures['rows_in']:,} rows ({sum(figures['quarantined'].values())} quarantined): "
        f"{figures['members']} fine-tuned voters, {figures['voting']}, {figures['processes']} DeepSpeed processes, "
        "from file to report. A tiny model with random weights: **accuracy is near chance**, as is to be expected; the "
        f"run is what is shown. Strength below zero on {100 * figures['negative_share']:.1f} % of the pairs; repairs: "
        f"{actions}. Seed {', '.join(map(str, results['seeds']))} alone. {origin(results)}",
        "\n".join(lines),
    ])


def format_losses() -> str:
    """The losses' speed."""
    results = read_results("losses")
    figures = results["figures"]
    rows = figures["losses"]
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    lines = [f"| time, ours / theirs | hidden | {' | '.join(f'batch {batch}' for batch in batches)} |",
             "|---" * (len(batches) + 2) + "|"]
    for loss, other, hidden in dict.fromkeys((row["loss"], row["other"], row["hidden"]) for row in rows):
        ratios = {row["batch"]: row["ratio"] for row in rows
                  if (row["loss"], row["other"], row["hidden"]) == (loss, other, hidden)}
        cells = [f"{ratios[batch]:.2f}" if batch in ratios else "-" for batch in batches]
        lines.append(f"| {loss} / {other} | {hidden} | {' | '.join(cells)} |")
    return "\n\n".join([
        "Forward and backward, both sides in turns in one run; SwAV against the matrix products it cannot do without. "
        f"Importing `rmkit.losses` adds {100 * figures['import']['ratio']:.1f} % to importing torch. {origin(results)}",
        "\n".join(lines),
    ])


FORMATS = {"gold": format_gold, "ukp": format_ukp, "hh": format_hh, "losses": format_losses}


def render(readme: str) -> str:
    """The README with every block filled anew."""
    return BLOCK.sub(lambda match: f"{match[1]}{FORMATS[match[2]]()}\n{match[3]}", readme)


def main() -> int:
    """Write or check README.md."""
    path = ROOT / "README.md"
    before = path.read_text(encoding="utf-8")
    after = render(before)
    if "--check" in sys.argv[1:]:
        return int(before != after)
    path.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
