"""Tables of time and memory, and of what a run withstands."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.tables import origin, read_results
from benchmarks.report.throughput import format_tables
from benchmarks.systems.sizing import format_table as format_sizes


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


def format_throughput() -> str:
    """rmkit beside TRL, transformers' pipeline and separate runs, and how costs grow."""
    results = read_results("throughput")
    figures = results["figures"]
    gradients = {name: max(contest["gradient"][name] for contest in figures["training"])
                 for name in ("relative", "packed_fp32", "padded_fp32")}
    attention = [contest["attention_left_out"]["packed"] for contest in figures["training"]]
    return "\n\n".join([
        "Llamas with random weights, one thread, both sides on the same pairs in turns; medians of the ratios of "
        f"{figures['rounds']} rounds in processor time, with their range. Both trainers in one process without "
        "DeepSpeed. TRL's defaults: random batches of 8 pairs, padded, gradient checkpointing, bf16 autocast; at its "
        "best: length-grouped batches, no checkpointing. A packed step's gradient is the padded one's to "
        f"{gradients['relative']:.0e} of its norm in float64; in fp32 rounding moves the packed one by up to "
        f"{gradients['packed_fp32']:.1e}, the padded one by {gradients['padded_fp32']:.1e}. Share of the peak: "
        "operations of the linear layers by seconds, over what these products reach alone at the same shapes; of it "
        "needed: without padding, a second copy of a prompt and "
        f"recomputation. Attention itself is left out, {100 * min(attention):.0f} to {100 * max(attention):.0f} % of "
        f"what is counted for packed rows. Ensembles on UKPConvArg1, {figures['ensembles']['pairs']} pairs. "
        f"{origin(results)}",
        format_tables(figures),
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
        "stands in [benchmarks/systems/sizing.py](benchmarks/systems/sizing.py). Bytes counted in 1 and 2 processes on a CPU, stages 0 "
        f"to 3, bf16 and fp32, differ from it by at most {worst(full)} (LoRA {worst(lora)}), activations by "
        f"{worst(figures['activations'])}; no GPU was measured. DeepSpeed's own estimate is the same at stage 2. At "
        f"stage 3 ours is {min(third):.2f} to {max(third):.2f} of it: it leaves out the gradients in bf16, adds the "
        "largest layer (ours stands under buffers), and counts whole the fp32 copy of the gradients that is made by "
        "parts; but for these the two are equal. Offload takes, for 70B and over all machines, "
        f"{host['ZeRO-2, offload']:,} (ZeRO-2) or {host['ZeRO-3, offload']:,} GiB (ZeRO-3) of host memory. "
        f"{origin(results)}",
        format_sizes(figures["tables"]),
    ])


def format_kills(name: str = "kills") -> str:
    """What kills hit, and how the resumed runs ended."""
    results = read_results(name)
    names = {"train": "`rmkit train`", "train_2_processes": "`rmkit train`, 2 processes", "run": "`rmkit run`",
             "meta_reward": "`rmkit meta-reward`"}
    way = {
        "kills": "a run is killed one to three times and resumed by the same command. fp32, CPU; byte for byte "
                 "compared with one let alone: the weights, and of `rmkit run` the tables of votes and repaired pairs "
                 "too",
        "kills_loop": "all of them strike one run of `rmkit meta-reward recipes/meta_rewarding_gold.yaml`, its world's "
                      "school included, which is resumed by the same command. fp32, CPU; byte for byte compared with "
                      "one let alone: every iteration's pairs and weights, and the last policy's responses",
    }
    lines = ["| killed | kills | at start-up | while saving | elsewhere | resumed runs | bitwise equal |",
             "|---" * 7 + "|"]
    for job, figures in results["figures"].items():
        startup, saving = (figures["hits"].get(hit, 0) for hit in ("at start-up", "while saving"))
        cells = [names[job], figures["kills"], startup, saving, figures["kills"] - startup - saving,
                 sum(figures["ends"].values()), figures["ends"]["equal"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n\n".join([
        "SIGKILL for all processes at random moments, every third aimed at a checkpoint being written; "
        f"{way[name]}. {origin(results)}",
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
