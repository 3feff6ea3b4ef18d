"""Tables of what voting, repair and losses do to accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.label_repair.trial import format_table, show
from benchmarks.report.tables import origin, read_results, show_gain, show_range

TASKS = {"ukp": "UKPConvArg1", "gold": "Gold world"}  # of the contrastive study


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
    return "\n\n".join([
        f"Means over {count} seeds ± standard deviation, percent; gains over BT in points, with the 95 % t-interval of "
        f"the {count} paired differences, bold where it leaves out zero. {origin(results)}",
        *(describe_contrastive(title, results["figures"][name]) for name, title in TASKS.items()),
    ])


def describe_contrastive(title: str, study: Mapping[str, Any]) -> str:
    """One task's tables."""
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
    end = tell_end([float(rate) for rate in study["validation_by_learning_rate"]], study["learning_rate"])
    sizes = ", ".join(f"{test} {show_range(counts)}" for test, counts in study["test_pairs"].items())
    return "\n\n".join([
        f"**{title}**: {study['pairs']:,} training pairs in batches of {batch}, one epoch; learning rate "
        f"{study['learning_rate']:g} (plain BT on validation pairs of another seed: {tried}).{end} "
        f"Test pairs: {sizes}.",
        "\n".join(lines),
        tabulate_geometry(study),
    ])


def tell_end(tried: Sequence[float], chosen: float) -> str:
    """That the chosen learning rate is the lowest or the highest tried, where it is: a better one may lie beyond."""
    for end, extreme in (("lowest", min(tried)), ("highest", max(tried))):
        if chosen == extreme and len(tried) > 1:
            return f" It is the {end} rate tried: a better one may lie beyond."
    return ""


def tabulate_geometry(study: Mapping[str, Any]) -> str:
    """What the terms do to embeddings."""
    geometry = study["geometry"]
    figures = list(geometry["BT"])
    count = len(geometry["BT"][figures[0]]["values"])
    lines = [f"| embeddings, {count} seed{'s' if count > 1 else ''} | {' | '.join(figures)} |",
             "|---" * (len(figures) + 1) + "|"]
    lines += [f"| {arm} | {' | '.join(show(entry[figure], 1, 3) for figure in figures)} |"
              for arm, entry in geometry.items()]
    return "\n".join(lines)


def format_ensembles() -> str:
    """What each kind of voter costs and finds."""
    results = read_results("ensembles")
    figures = results["figures"]
    pairs = [entry["train"] for entry in figures["pairs"]]
    lines = ["| ten voters | processor time, s | AUROC of planted flips | below full | rank correlation with full | "
             "accuracy after repair, % |", "|---|---|---|---|---|---|"]
    for kind in ("full", "heads"):
        cells = [show(figures["seconds"][kind], 1), show(figures["auroc"][kind], 1, 3),
                 show(figures["below_full"].get(kind), 1, 3), show(figures["correlation"][kind], 1, 3),
                 show(figures["accuracy"][kind])]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    ratios = "; ".join(f"{name} {show(entry, 1, 2)}" for name, entry in figures["ratio"].items()
                       if "lora" not in name)
    tuned = "; ".join(
        f"{kind} {entry['learning_rate']:g} of {', '.join(entry['validation'])}"
        for kind, entry in figures["rates"].items() if kind != "lora"
    )
    count = len(results["seeds"])
    return "\n\n".join([
        f"UKPConvArg1, {min(pairs):,} to {max(pairs):,} pairs of short arguments with 30 % of the labels flipped, "
        "all-MiniLM-L6-v2, in-sample, symmetric loss; fine-tuned voters see the pairs "
        f"{figures['settings']['epochs']} times in the same batches. Means over {count} seeds ± standard deviation. "
        "Processor time is from loading the model to the pairs' rewards; the fine-tuned voters compute matrix products in "
        f"bf16, heads in float32. {origin(results)}",
        "\n".join(lines),
        f"Costs in the same runs: {ratios}. Without repair the final reward model is right on "
        f"{show(figures['accuracy']['labels as they are'])} %. Learning rates, chosen on the validation topics of "
        f"another seed: {tuned}.",
    ])
