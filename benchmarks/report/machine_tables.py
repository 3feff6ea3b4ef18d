"""Tables of time and memory, and of runs that are killed and resumed."""

from collections.abc import Sequence

from benchmarks.report.tables import Figures, make_table, read_results, with_origin
from benchmarks.systems.sizing import format_table as format_sizes

JOBS = {"train": "`rmkit train`", "run": "`rmkit run`", "meta_reward": "`rmkit meta-reward`",
        "heads": "`rmkit vote`, heads"}
REMOVED = "lora"  # stacked LoRA voters, measured before 0.2.0 removed them


def format_losses() -> str:
    """The losses' time relative to other implementations and to their matrix products, by batch size."""
    figures = read_results("losses")["figures"]
    batches = list(dict.fromkeys(row["batch"] for row in figures["losses"]))
    cells = {}
    for row in figures["losses"]:
        cells.setdefault((row["loss"], row["other"], row["hidden"]), {})[row["batch"]] = f"{row['ratio']:.2f}"
    table = make_table(["time, ours / theirs", "hidden", *(f"batch {batch}" for batch in batches)],
                       [[f"{loss} / {other}", hidden, *(ratios.get(batch, "-") for batch in batches)]
                        for (loss, other, hidden), ratios in cells.items()])
    imports = f"Importing `rmkit.losses` adds {100 * figures['import']['ratio']:.1f} % to importing torch."
    return with_origin("losses", table, imports)


def show_ratio(entry: Figures) -> str:
    """A median over rounds with its range."""
    return f"**{entry['median']:.2f}** [{entry['low']:.2f}, {entry['high']:.2f}]"


def tabulate_training(contests: Sequence[Figures]) -> str:
    """TRL's RewardTrainer beside rmkit on the same pairs in the same precision."""
    rows = []
    for contest in contests:
        for theirs, ours in contest["rivals"].items():
            side, rival = contest["sides"][theirs], contest["sides"][ours]
            rows.append([f"{contest['data']}, {contest['layers']} layers of {contest['hidden']}: {theirs}",
                         f"{side['pairs_per_second']:.2f}", f"{rival['pairs_per_second']:.2f}",
                         show_ratio(contest["ratio"][theirs]),
                         f"{100 * side['share']:.0f} ({100 * side['needed_share']:.0f})",
                         f"{100 * rival['share']:.0f}"])
    return make_table(["RM training", "TRL, pairs/s", "rmkit, pairs/s", "rmkit is faster by",
                       "TRL, % of the peak (needed)", "rmkit, % of the peak"], rows)


def tabulate_ensembles(figures: Figures) -> str:
    """What ten heads cost relative to one."""
    rows = []
    for name, entry in figures["ratio"].items():
        if REMOVED in name:
            continue
        slow, _, fast = name.partition(" / ")
        slow += ", features ready" if "ready" in fast else ""
        rows.append([name, show_ratio(entry), f"{figures['seconds'][slow]:.2f} / {figures['seconds'][fast]:.2f}"])
    return make_table(["ensembles", "times the cost", "seconds"], rows)


def tabulate_scoring(figures: Figures) -> str:
    """transformers' pipeline beside rmkit, by file and batch size."""
    rows = []
    for data, contest in figures["contests"].items():
        for side, size in (("pipeline, defaults", 1), ("pipeline, best", contest["batch_size"])):
            rows.append([f"{data}: {side}, batches of {size}", f"{contest['sides'][side]['cpu']:.2f}",
                         f"{contest['sides']['rmkit']['cpu']:.2f}", show_ratio(contest["ratios"]["cpu"][side])])
    return make_table(["scoring 8 responses to a prompt", "pipeline, responses/s", "rmkit, responses/s",
                       "rmkit is faster by"], rows)


def tabulate_growth(figures: Figures) -> list[str]:
    """How cost grows with length, with the number of voters and with the number of processes."""
    length, processes = figures["length"], figures["processes"]
    ends = length["lengths"][0], length["lengths"][-1]
    rows = [[name, *(f"{length[name]['pairs_per_second'][end]:.3g}" for end in (0, -1)),
             f"{length[name]['power']['exponent']:.2f}", *(f"{length[name]['peak'][end]:.0f}" for end in (0, -1))]
            for name in ("packed", "padded")]
    voters = [[f"{kind}, 1 to {growth['sizes'][-1]} voters of {growth['pairs']} pairs",
               f"{growth['line']['start']:.2f} + {growth['line']['slope']:.3f} M",
               f"{growth['peak'][0]:.0f} to {growth['peak'][-1]:.0f}"]
              for kind, growth in figures["members"].items() if kind != REMOVED]
    return [
        make_table(["rows", *(f"pairs/s at {end:,} tokens" for end in ends), "time grows as length to the power",
                    *(f"MiB at {end:,}" for end in ends)], rows),
        make_table(["voters", "seconds for M voters", "MiB"], voters),
        make_table(["`rmkit train` under DeepSpeed, processes", *processes["processes"]],
                   [["pairs/s of wall time", *(f"{rate:.3g}" for rate in processes["rate"])]]),
    ]


def tabulate_estimate(rows: Sequence[Figures]) -> str:
    """Pairs per second and GPU, and hours for one epoch, computed and not measured."""
    cells = []
    for row in rows:
        low, high = row["pairs_per_second_and_gpu"]
        cells.append([f"{row['model']}, {row['data']}, {row['way']}", f"{row['operations'] / 1e15:.3g}",
                      f"{low:.2g} to {high:.2g}",
                      *(f"{least:.2g} to {most:.2g}" for least, most in row["hours"].values())])
    return make_table(["on paper", "PFLOP a pair", "pairs/s a GPU", *(f"hours on {gpus}" for gpus in rows[0]["hours"])],
                      cells)


def tabulate_throughput(figures: Figures) -> str:
    """All parts of the throughput benchmark."""
    return "\n\n".join([
        tabulate_training([*figures["training"], *figures["larger"]]), tabulate_ensembles(figures["ensembles"]),
        tabulate_scoring(figures["scoring"]), *tabulate_growth(figures), tabulate_estimate(figures["estimate"]),
    ])


def format_throughput() -> str:
    """rmkit beside TRL, transformers' pipeline and separate runs, and how costs grow."""
    return with_origin("throughput", tabulate_throughput(read_results("throughput")["figures"]))


def format_sizing() -> str:
    """What each GPU must hold, and how far the formula is from the bytes counted."""
    figures = read_results("sizing")["figures"]
    rows = {"full training": [row for row in figures["states"] if "LoRA" not in row["training"]],
            "LoRA": [row for row in figures["states"] if "LoRA" in row["training"]],
            "activations": figures["activations"]}
    errors = [f"{100 * max(abs(row['ratio'] - 1) for row in part):.1f}" for part in rows.values()]
    return with_origin("sizing", format_sizes(figures["tables"]), make_table(
        ["formula against bytes counted", *rows], [["largest difference, %", *errors]]))


def format_kills(name: str = "kills") -> str:
    """What the kills hit, and how the resumed runs ended."""
    rows = []
    for job, entry in read_results(name)["figures"].items():
        startup, saving = (entry["hits"].get(hit, 0) for hit in ("at start-up", "while saving"))
        rows.append([JOBS[job], entry["kills"], startup, saving, entry["kills"] - startup - saving,
                     sum(entry["ends"].values()), entry["ends"]["equal"]])
    return with_origin(name, make_table(
        ["killed", "kills", "at start-up", "while saving", "elsewhere", "resumed runs", "bitwise equal"], rows))


def format_memory() -> str:
    """Peak anonymous memory by rows, with the resident peak beside it."""
    figures = read_results("memory")["figures"]
    counts = sorted({int(rows) for cells in figures.values() for rows in cells if rows.isdigit()})
    table = []
    for job, cells in figures.items():
        peaks = [cells.get(str(rows)) for rows in counts]
        growth = peaks[-1]["anonymous"] / peaks[0]["anonymous"] - 1
        table.append([JOBS[job], *(f"{cell['anonymous']:.0f} ({cell['resident']:.0f})" for cell in peaks),
                      f"{100 * growth:+.1f} %"])
    return with_origin("memory", make_table(
        ["peak, MiB: anonymous (resident)", *(f"{rows:,} rows" for rows in counts), "growth of anonymous"], table))
