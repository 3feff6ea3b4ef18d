"""Tables and the answer of the study of remedies against noise."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.label_repair.trial import show
from benchmarks.report.studies import WAYS, WORLDS, compare, make_table
from benchmarks.report.tables import origin, read_results, show_gain

PLAIN, CHOSEN = "plain BT", "best recipe"
KINDS = {"uniform": "by chance", "small_gap": "where the difference is small", "longer": "in favour of the longer"}


def show_cell(key: str) -> str:
    """A kind and a share of noise in words."""
    kind, rate = key.split()
    return f"{100 * float(rate):g} % {KINDS[kind]}"


def find_noisiest(cells: Mapping[str, Any], kind: str) -> str:
    """The cell of the largest share of one kind of noise."""
    return max((key for key in cells if key.startswith(kind)), key=lambda key: float(key.split()[1]))


def find_best(cell: Mapping[str, Any]) -> str:
    """The line that is best on the test pairs, known only in hindsight."""
    accuracy = cell["accuracy"]
    return max((line for line in accuracy if line != CHOSEN), key=lambda line: accuracy[line]["mean"])


def show_gains(cells: Mapping[str, Any], line: str, keys: Sequence[str]) -> list[str]:
    """A line's gains over plain BT in each of the cells."""
    return [show_gain(compare(cells[key]["accuracy"][line], cells[key]["accuracy"][PLAIN])) for key in keys]


def answer_denoising(figures: Mapping[str, Any]) -> str:
    """What the denoising study found, in a line."""
    parts = []
    for name, cells in figures["sources"].items():
        key = find_noisiest(cells, "uniform")
        accuracy, best = cells[key]["accuracy"], find_best(cells[key])
        [gain] = show_gains(cells, CHOSEN, [key])
        parts.append(
            f"{WORLDS[name]}, {show_cell(key)}: plain BT {show(accuracy[PLAIN])} %, the recipe chosen on noisy "
            f"validation pairs {show(accuracy[CHOSEN])} % ({gain.strip('*')} points), the best in hindsight ({best}) "
            f"{show(accuracy[best])} %"
        )
    return ". ".join(parts) + "."


def tabulate_denoising(cells: Mapping[str, Any]) -> str:
    """Accuracy of every line on clean test pairs, by kind and share of noise, and the chosen recipe's gain."""
    names = list(cells)
    rows = [[line, *(show(cells[name]["accuracy"][line]) for name in names)] for line in cells[names[0]]["accuracy"]]
    rows.append([f"gain of {CHOSEN} over {PLAIN}", *show_gains(cells, CHOSEN, names)])
    return make_table(["accuracy, %", *map(show_cell, names)], rows)


def tabulate_flips(cells: Mapping[str, Any]) -> str:
    """What flipping the estimated share finds and adds, and how well calibrated the final models are."""
    names = list(cells)
    rows = [["estimated noise, %", *(show(cells[name]["estimated_rate"]) for name in names)]]
    for way in WAYS[:2]:
        for figure in ("precision", "recall", "wrong_after"):
            rows.append([f"flips, {way}: {figure.replace('_', ' ')}, %",
                         *(show(cells[name]["flips"][way][figure]) for name in names)])
    for model in cells[names[0]]["calibration"]:
        rows.append([f"calibration error, {model}", *(show(cells[name]["calibration"][model]["error"])
                                                      for name in names)])
    return make_table(["", *map(show_cell, names)], rows)


def format_denoising() -> str:
    """The block of benchmarks/README.md."""
    results = read_results("denoising")
    figures = results["figures"]
    return "\n\n".join([
        f"At most {figures['pairs']:,} training pairs; heads on frozen features; means over {len(results['seeds'])} "
        "seeds ± standard deviation, on test pairs that are not flipped; gains in points with the 95 % t-interval of "
        f"the paired differences, bold where it leaves out zero. {origin(results)}",
        *(f"**{WORLDS[name]}**\n\n{tabulate_denoising(cells)}\n\n{tabulate_flips(cells)}"
          for name, cells in figures["sources"].items()),
    ])
