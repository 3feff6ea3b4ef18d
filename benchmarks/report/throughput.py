"""The tables of the throughput benchmark, as Markdown, from its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]
GROWTH = {"length", "members", "processes"}


def format_training(contests: Sequence[Entry]) -> str:
    """One row per contest and side of TRL, beside rmkit on the same batches in the same precision."""
    lines = ["| RM training | TRL, pairs/s | rmkit, pairs/s | rmkit is faster by | TRL, of the peak (needed) | "
             "rmkit, of the peak |", "|---" * 6 + "|"]
    for contest in contests:
        for theirs, ours in contest["rivals"].items():
            side, rival = contest["sides"][theirs], contest["sides"][ours]
            lines.append(
                f"| {contest['data']}, {contest['layers']} layers of {contest['hidden']}: {theirs} | "
                f"{side['pairs_per_second']:.2f} | {rival['pairs_per_second']:.2f} | "
                f"{show_ratio(contest['ratio'][theirs])} | {100 * side['share']:.0f} % "
                f"({100 * side['needed_share']:.0f} %) | {100 * rival['share']:.0f} % |")
    return "\n".join(lines)


def format_ensembles(figures: Entry) -> str:
    """The ratios of the ensembles' costs."""
    lines = ["| ensembles | times the cost | seconds |", "|---|---|---|"]
    for name, entry in figures["ratio"].items():
        if "lora" in name:
            continue
        dear, _, cheap = name.partition(" / ")
        ready = ", features ready" if "ready" in cheap else ""
        seconds = f"{figures['seconds'][dear + ready]:.2f} / {figures['seconds'][cheap]:.2f}"
        lines.append(f"| {name} | {show_ratio(entry)} | {seconds} |")
    return "\n".join(lines)


def format_scoring(figures: Entry) -> str:
    """One row per file and setting of transformers' pipeline."""
    lines = ["| scoring 8 responses to a prompt | pipeline, responses/s | rmkit, responses/s | rmkit is faster by |",
             "|---" * 4 + "|"]
    for data, contest in figures["contests"].items():
        sides = contest["sides"]
        for side in ("pipeline, defaults", "pipeline, best"):
            size = 1 if side == "pipeline, defaults" else contest["batch_size"]
            rates = f"{sides[side]['cpu']:.2f} | {sides['rmkit']['cpu']:.2f}"
            lines.append(f"| {data}: {side}, batches of {size} | {rates} | "
                         f"{show_ratio(contest['ratios']['cpu'][side])} |")
    return "\n".join(lines)


def format_growth(figures: Entry) -> str:
    """What each cost grows by: fitted exponents and lines; of those that were measured."""
    parts = []
    if "length" in figures:
        growth = figures["length"]
        lengths = growth["lengths"]
        for name in ("packed", "padded"):
            side = growth[name]
            high, low, power = side["pairs_per_second"][0], side["pairs_per_second"][-1], side["power"]["exponent"]
            parts.append(f"{name}, {lengths[0]} to {lengths[-1]:,} tokens: {high:.3g} to {low:.2g} pairs/s, time as "
                         f"length to the power of {power:.2f}, {side['peak'][0]:.0f} to {side['peak'][-1]:.0f} MiB")
    for kind, growth in figures.get("members", {}).items():
        if kind == "lora":
            continue
        line, peaks = growth["line"], growth["peak"]
        parts.append(f"{kind}, 1 to {growth['sizes'][-1]} voters of {growth['pairs']} pairs: {line['start']:.2f} + "
                     f"{line['slope']:.3f} M seconds, {peaks[0]:.0f} to {peaks[-1]:.0f} MiB")
    if "processes" in figures:
        growth = figures["processes"]
        rates = [f"{rate:.3g} with {count}" for count, rate in zip(growth["processes"], growth["rate"], strict=True)]
        parts.append(f"`rmkit train` under DeepSpeed, by processes: {', '.join(rates)} pairs/s of wall time")
    return f"How costs grow: {'; '.join(parts)}."


def format_estimate(rows: Sequence[Entry]) -> str:
    """Pairs per second and GPU, and hours for one epoch."""
    gpus = list(rows[0]["hours"])
    lines = [f"| on paper | PFLOP a pair | pairs/s a GPU | {' | '.join(f'hours on {count}' for count in gpus)} |",
             "|---" * (len(gpus) + 3) + "|"]
    for row in rows:
        low, high = row["pairs_per_second_and_gpu"]
        hours = [f"{least:.2g} to {most:.2g}" for least, most in row["hours"].values()]
        lines.append(f"| {row['model']}, {row['data']}, {row['way']} | {row['operations'] / 1e15:.3g} | "
                     f"{low:.2g} to {high:.2g} | {' | '.join(hours)} |")
    return "\n".join(lines)


def show_ratio(entry: Entry) -> str:
    """A median with its range."""
    return f"**{entry['median']:.2f}** [{entry['low']:.2f}, {entry['high']:.2f}]"


def format_tables(figures: Entry) -> str:
    """All that were measured."""
    parts = []
    if "training" in figures:
        parts.append(format_training([*figures["training"], *figures.get("larger", [])]))
    if "ensembles" in figures:
        parts.append(format_ensembles(figures["ensembles"]))
    if "scoring" in figures:
        parts.append(format_scoring(figures["scoring"]))
    if not GROWTH.isdisjoint(figures):
        parts.append(format_growth(figures))
    if "estimate" in figures:
        parts.append(format_estimate(figures["estimate"]))
    return "\n\n".join(parts)
