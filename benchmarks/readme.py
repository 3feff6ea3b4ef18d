"""Write the tables of README.md from benchmarks/results, so that nobody types a result.

    python benchmarks/readme.py [--check]

With --check nothing is written, and the exit code says whether the README holds what the results say.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repair_study import format_table, show
from sizing import format_table as format_sizes

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


def format_contrastive() -> str:
    """What each contrastive term adds to Bradley-Terry: accuracies, and paired gains with intervals."""
    results = read_results("contrastive")
    count = len(results["seeds"])
    parts = [
        f"Means over {count} seeds ± standard deviation, percent; gains over BT in points, with the 95 % t-interval of "
        f"the {count} paired differences, bold where it leaves out zero. {origin(results)}",
    ]
    for name, title in (("ukp", "UKPConvArg1"), ("gold", "Gold world")):
        study = results["figures"][name]
        batch = study["settings"]["per_device_train_batch_size"]
        seconds = {arm: entry["mean"] for arm, entry in study["seconds"].items()}
        tests = list(study["accuracy"]["BT"])
        lines = [f"| accuracy | {' | '.join(tests)} | time / BT |", "|---" * (len(tests) + 2) + "|"]
        for arm, entries in study["accuracy"].items():
            cells = [*(show(entries[test]) for test in tests), f"{seconds[arm] / seconds['BT']:.1f}"]
            lines.append(f"| {arm} | {' | '.join(cells)} |")
        for arm, gains in study["gain"].items():
            cells = [show_gain(gains[test]) for test in tests]
            lines.append(f"| gain: {arm.removeprefix('BT ')} | {' | '.join(cells)} | |")
        tried = ", ".join(f"{float(rate):g} gave {100 * accuracy:.1f} %"
                          for rate, accuracy in study["validation_by_learning_rate"].items())
        sizes = ", ".join(f"{test} {show_range(counts)}" for test, counts in study["test_pairs"].items())
        parts.append(f"**{title}**: {study['pairs']:,} training pairs in batches of {batch}, one epoch; learning rate "
                     f"{study['learning_rate']:g} (plain BT on validation pairs of another seed: {tried}). Test pairs: "
                     f"{sizes}.")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def show_range(counts: Sequence[int]) -> str:
    """A count, or from which to which it goes."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def show_gain(entry: Mapping[str, Any]) -> str:
    """A difference of accuracies in points with its interval, bold where that leaves out zero."""
    if entry["low"] is None:
        return f"{100 * entry['mean']:+.1f}"
    text = f"{100 * entry['mean']:+.1f} [{100 * entry['low']:+.1f}, {100 * entry['high']:+.1f}]"
    return f"**{text}**" if entry["low"] > 0 or entry["high"] < 0 else text


def format_ensembles() -> str:
    """What each kind of voter costs and finds."""
    results = read_results("ensembles")
    figures = results["figures"]
    pairs = [entry["train"] for entry in figures["pairs"]]
    lines = ["| ten voters | processor time, s | AUROC of planted flips | below full | rank correlation with full | "
             "accuracy after repair, % |", "|---|---|---|---|---|---|"]
    for kind in ("full", "lora", "heads"):
        cells = [show(figures["seconds"][kind], 1), show(figures["auroc"][kind], 1, 3),
                 show(figures["below_full"].get(kind), 1, 3), show(figures["correlation"][kind], 1, 3),
                 show(figures["accuracy"][kind])]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    ratios = "; ".join(f"{name} {show(entry, 1, 2)}" for name, entry in figures["ratio"].items())
    tuned = "; ".join(
        f"{kind} {entry['learning_rate']:g} of {', '.join(entry['validation'])}"
        for kind, entry in figures["rates"].items()
    )
    count = len(results["seeds"])
    return "\n\n".join([
        f"UKPConvArg1, {min(pairs):,} to {max(pairs):,} pairs of short arguments with 30 % of the labels flipped, "
        "all-MiniLM-L6-v2, in-sample, symmetric loss; fine-tuned voters and adapters go through the pairs "
        f"{figures['settings']['epochs']} times in the same batches. Means over {count} seeds ± standard deviation. "
        "Processor time is from the model's folder to the pairs' rewards; the fine-tuned have their matrix products in "
        f"bf16, the others in float32. {origin(results)}",
        "\n".join(lines),
        f"Costs in the same runs: {ratios}. Without repair the final reward model is right on "
        f"{show(figures['accuracy']['labels as they are'])} %. Learning rates, chosen on the validation topics of "
        f"another seed: {tuned}.",
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


def format_sizing() -> str:
    """What each GPU must hold, and how well the formula behind it was met."""
    results = read_results("sizing")
    figures = results["figures"]

    def worst(rows: Sequence[Mapping[str, Any]]) -> str:
        return f"{100 * max(abs(row['ratio'] - 1) for row in rows):.1f} %"

    lora = [row for row in figures["states"] if "LoRA" in row["training"]]
    full = [row for row in figures["states"] if row not in lora]
    third = [row["ours"] / row["deepspeed"] for row in figures["estimator"] if row["training"] == "ZeRO-3"]
    host = {row["training"]: row["host_gib"] for row in figures["tables"]["70B"]}
    return "\n\n".join([
        f"bf16, Adam, activation checkpointing, {figures['pairs']} pairs of {figures['length']:,} tokens at once on a "
        f"GPU. **Bold** fits one of 80 GB, plain one of 141 GB, filled to {100 * figures['usable']:.0f} %. The formula "
        "stands in [benchmarks/sizing.py](benchmarks/sizing.py). Bytes counted in 1 and 2 processes on a CPU, stages 0 "
        f"to 3, bf16 and fp32, differ from it by at most {worst(full)} (LoRA {worst(lora)}), activations by "
        f"{worst(figures['activations'])}; no GPU was measured. DeepSpeed's own estimate is the same at stage 2. At "
        f"stage 3 ours is {min(third):.2f} to {max(third):.2f} of it: it leaves out the gradients in bf16, adds the "
        "largest layer (ours stands under buffers), and counts whole the fp32 copy of the gradients that is made by "
        "parts; but for these the two are equal. Offload takes, for 70B and over all machines, "
        f"{host['ZeRO-2, offload']:,} (ZeRO-2) or {host['ZeRO-3, offload']:,} GiB (ZeRO-3) of host memory. "
        f"{origin(results)}",
        format_sizes(figures["tables"]),
    ])


def format_kills() -> str:
    """What kills hit, and how the resumed runs ended."""
    results = read_results("kills")
    names = {"train": "`rmkit train`", "train_2_processes": "`rmkit train`, 2 processes", "run": "`rmkit run`"}
    lines = ["| killed | kills | at start-up | while saving | elsewhere | resumed runs | bitwise equal |",
             "|---" * 7 + "|"]
    for job, figures in results["figures"].items():
        startup, saving = (figures["hits"].get(name, 0) for name in ("at start-up", "while saving"))
        cells = [names[job], figures["kills"], startup, saving, figures["kills"] - startup - saving,
                 sum(figures["ends"].values()), figures["ends"]["equal"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n\n".join([
        "SIGKILL for all processes at random moments, every third aimed at a checkpoint being written; a run is killed "
        "one to three times and resumed by the same command. fp32, CPU; byte for byte compared with one let alone: "
        f"the weights, and of `rmkit run` the tables of votes and repaired pairs too. {origin(results)}",
        "\n".join(lines),
    ])


def format_memory() -> str:
    """Peak memory by rows."""
    results = read_results("memory")
    names = {"train": "`rmkit train`, 20 steps", "heads": "`rmkit vote`, heads", "full": "`rmkit vote`, full"}
    counts = sorted({int(rows) for cells in results["figures"].values() for rows in cells if rows != "growth"})
    lines = [f"| peak, MiB: resident (anonymous) | {' | '.join(f'{rows:,} rows' for rows in counts)} | growth |",
             "|---" * (len(counts) + 2) + "|"]
    for job, figures in results["figures"].items():
        cells = [figures.get(str(rows)) for rows in counts]
        shown = [f"{cell['resident']:.0f} ({cell['anonymous']:.0f})" if cell else "-" for cell in cells]
        lines.append(f"| {names[job]} | {' | '.join(shown)} | {100 * figures['growth']:+.1f} % |")
    return "\n\n".join([
        "Gold world, tiny model, every row tokenised, scored and written. Resident memory is the kernel's high-water "
        f"mark, with the pages of mapped files that were touched; anonymous memory is without them. {origin(results)}",
        "\n".join(lines),
    ])


FORMATS = {
    "gold": format_gold, "ukp": format_ukp, "contrastive": format_contrastive, "hh": format_hh,
    "losses": format_losses, "ensembles": format_ensembles, "sizing": format_sizing,
    "kills": format_kills, "memory": format_memory,
}


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
