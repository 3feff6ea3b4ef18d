"""Tables and answers of the studies in which a policy moves: MetaRM, iterative RLHF."""

from collections.abc import Mapping
from typing import Any

from benchmarks.label_repair.trial import show
from benchmarks.report.studies import make_table
from benchmarks.report.tables import origin, read_results, show_gain


def format_metarm_cost() -> str:
    """What MetaRM's ascent costs, and what each way of it is worth."""
    results = read_results("metarm_cost")
    figures = results["figures"]
    times, gains = figures["time"], read_results("metarm")["figures"]["variants"]
    rows = [
        [arm + (", against plain steps with as many sequences" if arm == "paper" else ""),
         *(f"{times[kind]['ratio'][arm]['median']:.2f}" for kind in ("packed", "padded")),
         show_gain(gains[arm]) if arm in gains else "-"]
        for arm in times["packed"]["ratio"]
    ]
    more = "; ".join(f"{engine} {entry['more']['full']:+.2f}" for engine, entry in figures["memory"].items())
    return "\n\n".join([
        "A full ascent sees as many sequences as the pairs of a step, all of one length; a quarter one a quarter of "
        f"them. CPU time on one thread, medians of {figures['rounds']} rounds. {origin(results)}",
        make_table(["time of a step / plain step", "packed rows", "padded", "gain in accuracy (table above)"], rows),
        f"Peak memory over the plain step's, in fp32 copies of the parameters, one process: {more}.",
    ])


def answer_metarm(figures: Mapping[str, Any]) -> str:
    """What MetaRM is worth, in a line."""
    parts = [
        f"at a mean KL of {entry['plain']['kl']['mean']:.1f} nats the plain RM orders "
        f"{show(entry['plain']['accuracy'])} % of pairs as the truth does, MetaRM {show(entry['meta']['accuracy'])} % "
        f"({show_gain(entry['gain'])} points)"
        for entry in figures["distances"].values()
    ]
    return f"On responses of a policy away from SFT: {'; '.join(parts)}."


def tabulate_metarm(figures: Mapping[str, Any]) -> str:
    """Plain RM and MetaRM by the policy's distance."""
    rows = []
    for entry in figures["distances"].values():
        plain = entry["plain"]
        rows.append([
            f"{plain['kl']['mean']:.2f}", show(plain["gold"], 1, 2), show(plain["reward"], 1, 2),
            show(plain["accuracy"]), show(entry["meta"]["accuracy"]), show_gain(entry["gain"]),
            *(show_gain(entry["tests"][test]) for test in ("in_distribution", "gold")),
        ])
    return make_table(["mean KL from SFT, nats", "gold reward", "RM reward", "plain RM", "MetaRM", "gain",
                       "gain in distribution", "on all gold tests"], rows)


def describe_variants(figures: Mapping[str, Any]) -> str:
    """The gain by how much is ascended on."""
    variants = "; ".join(f"{name} {show_gain(entry)}" for name, entry in figures["variants"].items())
    tried = "; ".join(
        f"{size}: {100 * gains['accuracy']:+.1f} on the policies' responses, {100 * gains['validation']:+.1f} on "
        "validation pairs" for size, gains in figures["tried"].items()
    )
    return (f"Gain at the middle distance by how much is ascended on: {variants}. Step sizes tried, gains in points: "
            f"{tried}; taken: {figures['meta_learning_rate']:g}.")


def format_metarm(name: str = "metarm") -> str:
    """What MetaRM is worth on policies away from SFT."""
    results = read_results(name)
    figures = results["figures"]
    return "\n\n".join([
        "Pair accuracy, percent, on responses of the policy that RLHF aims at, at three distances "
        f"from SFT; gains in points with the 95 % t-interval of {len(results['seeds'])} paired differences, bold where "
        f"it leaves out zero. {origin(results)}",
        tabulate_metarm(figures),
        describe_variants(figures),
    ])


def format_metarm_scratch() -> str:
    """The same where no model begins with a trained one."""
    return format_metarm("metarm_scratch")


ROUND_COLUMNS = {  # figure -> heading, factor, digits
    "gold": ("gold reward", 1, 2), "win_rate": ("win rate, %", 100, 1),
    "accuracy_before": ("RM accuracy before, %", 100, 1), "accuracy": ("after, %", 100, 1), "spread": ("spread", 1, 2),
    "reward": ("RM reward", 1, 2), "kl": ("KL", 1, 1), "length": ("tokens", 1, 1),
    "duplicates": ("duplicates, %", 100, 1),
}


def tabulate_rounds(figures: Mapping[str, Any]) -> str:
    """Both arms by round."""
    rows = [
        [f"{arm}, {place or 'SFT'}", *(show(entries.get(name), factor, digits)
                                       for name, (_, factor, digits) in ROUND_COLUMNS.items())]
        for arm, rounds in figures["by_arm"].items() for place, entries in enumerate(rounds)
    ]
    return make_table(["arm, round", *(heading for heading, _, _ in ROUND_COLUMNS.values())], rows)


def tabulate_ahead(figures: Mapping[str, Any]) -> str:
    """By how much MetaRM is ahead of the plain arm after each round."""
    rows = [
        [str(place), show_difference(entries["gold"]), show_gain(entries["win_rate"]),
         show_gain(entries["accuracy_before"])]
        for place, entries in enumerate(figures["ahead"]) if place
    ]
    return make_table(["MetaRM ahead of plain, after round", "gold reward", "win rate, points",
                       "RM accuracy before, points"], rows)


def show_difference(entry: Mapping[str, Any]) -> str:
    """A difference with its interval, bold where that leaves out zero."""
    if entry["low"] is None:
        return f"{entry['mean']:+.2f}"
    text = f"{entry['mean']:+.2f} [{entry['low']:+.2f}, {entry['high']:+.2f}]"
    return f"**{text}**" if entry["low"] > 0 or entry["high"] < 0 else text


def format_iterative_rlhf() -> str:
    """Gold reward and win rate of the policies by round, and what the reward models still tell apart."""
    results = read_results("iterative_rlhf")
    figures, count = results["figures"], len(results["seeds"])
    steps = figures["settings"]["reinforce"]
    return "\n\n".join([
        f"Means over {count} seeds ± standard deviation; differences with the 95 % t-interval of the {count} paired "
        "ones, bold where it leaves out zero. Gold reward is of 13 at most; win rate against SFT, ties half. A round: "
        f"{steps['max_steps']} steps of RLOO on {steps['per_device_train_batch_size']} responses. RM accuracy is of "
        "pairs of the policy's responses to a prompt, before the round (when the reward model had just been trained) "
        "and after it; spread is the root mean square of their reward differences; KL to SFT in nats. "
        f"{origin(results)}",
        tabulate_rounds(figures),
        tabulate_ahead(figures),
    ])
