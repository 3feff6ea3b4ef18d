"""Tables of the studies in which a policy moves: MetaRM, iterative RLHF, best-of-n, the meta-rewarding loop."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.tables import (
    Figures,
    compare,
    make_row,
    make_table,
    read_results,
    show,
    show_difference,
    show_gain,
    with_origin,
)
from benchmarks.shared.results import summarise

Columns = Mapping[str, tuple[str, float, int]]  # figure -> heading, factor, digits
ROUND_COLUMNS: Columns = {
    "gold": ("gold reward", 1, 2), "win_rate": ("win rate, %", 100, 1),
    "accuracy_before": ("RM accuracy before, %", 100, 1), "accuracy": ("after, %", 100, 1), "spread": ("spread", 1, 2),
    "reward": ("RM reward", 1, 2), "kl": ("KL", 1, 1), "length": ("tokens", 1, 1),
    "duplicates": ("duplicates, %", 100, 1),
}
LOOP_COLUMNS: Columns = {
    "win_rate": ("win rate, %", 100, 1), "win_rate_lc": ("at equal lengths", 100, 1), "gold": ("gold reward", 1, 2),
    "characters": ("length / SFT's", 1, 2), "kl": ("KL", 1, 1), "spearman": ("judge's Spearman", 1, 3),
    "score": ("score it gives", 1, 1), "top": ("at the top, %", 100, 0), "first": ("first judgment wins, %", 100, 0),
    "higher": ("higher score wins, %", 100, 0),
}
LOOP_ARMS = {"meta": "Meta-Rewarding", "self": "Self-Rewarding with length control", "reward": "reward models judge"}
POLICIES = {"in_distribution": "the policy that the pairs were drawn from", "another_policy": "another policy"}
SHOWN = (1, 4, 16, 64, 256, 1024)


def tabulate_metarm(figures: Figures) -> str:
    """Plain reward model and MetaRM by the policy's distance."""
    rows = [[show(plain["kl"], 1, 2).partition(" ")[0], show(plain["gold"], 1, 2), show(plain["reward"], 1, 2),
             show(plain["accuracy"]), show(entry["meta"]["accuracy"]), show_gain(entry["gain"]),
             *(show_gain(entry["tests"][test]) for test in ("in_distribution", "gold"))]
            for entry in figures["distances"].values() for plain in (entry["plain"],)]
    return make_table(["mean KL from SFT, nats", "gold reward", "RM reward", "plain RM, %", "MetaRM, %", "gain",
                       "gain in distribution", "on all gold tests"], rows)


def tabulate_variants(figures: Figures) -> str:
    """Gain at the middle distance by how much is ascended on, and gains by step size in tuning."""
    variants = make_table(["ascent on", *figures["variants"]],
                          [["gain at the middle distance", *map(show_gain, figures["variants"].values())]])
    tried = figures["tried"]
    rows = [[f"gain on {title}, points", *(f"{100 * gains[name]:+.1f}" for gains in tried.values())]
            for name, title in (("accuracy", "the policies' responses"), ("validation", "validation pairs"))]
    return f"{variants}\n\n{make_table(['step size in tuning', *tried], rows)}"


def format_metarm(name: str = "metarm") -> str:
    """MetaRM on policies away from SFT."""
    figures = read_results(name)["figures"]
    return with_origin(name, tabulate_metarm(figures), tabulate_variants(figures))


def format_metarm_cost() -> str:
    """What MetaRM's ascent costs in time and memory."""
    figures, gains = read_results("metarm_cost")["figures"], read_results("metarm")["figures"]["variants"]
    times = figures["time"]
    rows = [[arm, *(f"{times[kind]['ratio'][arm]['median']:.2f}" for kind in ("packed", "padded")),
             show_gain(gains[arm]) if arm in gains else "-"] for arm in times["packed"]["ratio"]]
    memory = figures["memory"]
    return with_origin(
        "metarm_cost",
        make_table(["time of a step / plain step", "packed rows", "padded", "gain in accuracy (table above)"], rows),
        make_table(["engine", *memory], [["extra peak memory, fp32 copies of the parameters",
                                          *(f"{entry['more']['full']:+.2f}" for entry in memory.values())]]),
    )


def tabulate_arms(by_arm: Mapping[str, Sequence[Figures]], columns: Columns, round_name: str) -> str:
    """The figures of `columns` by arm and round; figures that no arm has are left out."""
    columns = {name: column for name, column in columns.items()
               if any(entries.get(name) for rounds in by_arm.values() for entries in rounds)}
    rows = [[f"{arm}, {number or 'SFT'}", *(show(entries.get(name), factor, digits)
                                            for name, (_, factor, digits) in columns.items())]
            for arm, rounds in by_arm.items() for number, entries in enumerate(rounds)]
    return make_table([f"arm, {round_name}", *(heading for heading, _, _ in columns.values())], rows)


def tabulate_rounds(figures: Figures) -> str:
    """Both arms of iterative RLHF by round."""
    return tabulate_arms(figures["by_arm"], ROUND_COLUMNS, "round")


def tabulate_lead(figures: Figures) -> str:
    """How far MetaRM is ahead of the plain arm after each round."""
    rows = [[number, show_difference(entries["gold"]), show_gain(entries["win_rate"]),
             show_gain(entries["accuracy_before"])] for number, entries in enumerate(figures["ahead"]) if number]
    return make_table(["MetaRM ahead of plain, after round", "gold reward", "win rate, points",
                       "RM accuracy before, points"], rows)


def format_iterative_rlhf() -> str:
    """Gold reward and win rate of the policies by round."""
    figures = read_results("iterative_rlhf")["figures"]
    return with_origin("iterative_rlhf", tabulate_rounds(figures), tabulate_lead(figures))


def tabulate_overoptimization(figures: Figures, split: str) -> str:
    """Gold reward by n, where it is highest, and the gain over a single reward model at the largest n."""
    sizes = figures["sizes"]
    shown = [n for n in SHOWN if n in sizes]
    rows = []
    for name, curve in figures["curves"][split].items():
        by_seed = ", ".join(f"{n:,}" for n in sorted(curve["turnover_by_seed"]))
        rows.append([name, *(f"{curve['gold'][sizes.index(n)]['mean']:.2f}" for n in shown),
                     f"{curve['turnover']:,} ({by_seed})", show_difference(curve["lost"]),
                     show_difference(curve["gain"])])
    return make_table(["gold reward, best of", *(f"{n:,}" for n in shown), "highest at n (by seed)",
                       "lost from there to the end", f"gain over one, best of {sizes[-1]:,}"], rows)


def tabulate_steps(figures: Figures) -> str:
    """Accuracy on noisy validation pairs by MetaRM's step size, and the sizes chosen by seed."""
    meta = figures["meta"]
    rows = [[*make_row(title, [meta["plain"], *meta["tried"][split].values()]), ", ".join(meta["chosen"][split])]
            for split, title in POLICIES.items()]
    return make_table(["MetaRM's step on responses of", "no step", *next(iter(meta["tried"].values())),
                       "chosen, by seed"], rows)


def format_overoptimization() -> str:
    """What the best of n by each reward model is worth in gold."""
    figures = read_results("overoptimization")["figures"]
    return with_origin(
        "overoptimization",
        *(f"Responses of {title}:\n\n{tabulate_overoptimization(figures, split)}" for split, title in POLICIES.items()),
        tabulate_steps(figures),
    )


def list_policies(policies: Sequence[Figures]) -> list[dict[str, Any]]:
    """An arm's policies with the figures of `LOOP_COLUMNS`; `characters` are relative to the first policy's.

    The judge is a reward model or a language model; its figures are None where there is no judge yet.
    """
    first = policies[0]["length"]["values"]
    return [{
        **policy,
        **{name: policy.get(f"{name}_reward") or policy.get(f"{name}_language") for name in ("spearman", "score")},
        "characters": summarise([length / one for length, one in zip(policy["length"]["values"], first, strict=True)]),
    } for policy in policies]


def tabulate_loop(figures: Figures) -> str:
    """Every arm's policies by iteration."""
    by_arm = {LOOP_ARMS[arm]: list_policies(policies) for arm, policies in figures["by_arm"].items()}
    return tabulate_arms(by_arm, LOOP_COLUMNS, "iteration")


def find_steps(policies: Sequence[Figures]) -> list[dict[str, Any]]:
    """What each iteration adds to the win rate."""
    return [compare(after["win_rate"], before["win_rate"])
            for before, after in zip(policies, policies[1:], strict=False)]


def tabulate_aims(figures: Figures) -> str:
    """By arm, what the loop aims at: rising win rates, a better judge after two iterations, steady lengths."""
    rows = []
    for arm, entries in figures["by_arm"].items():
        policies = list_policies(entries)
        spearman = [policy["spearman"] for policy in policies[:3] if policy["spearman"]]
        learning = show_difference(compare(spearman[-1], spearman[0])) if len(spearman) > 1 else "-"
        lengths = [value for policy in policies[1:] for value in policy["characters"]["values"]]
        rows.append([LOOP_ARMS[arm], "; ".join(map(show_gain, find_steps(policies))), learning,
                     f"{min(lengths):.2f} to {max(lengths):.2f}"])
    return make_table(["arm", "win rate gained in each iteration, points", "judge's Spearman gained by iteration 2",
                       "length / SFT's, over seeds and iterations"], rows)


def format_meta_rewarding() -> str:
    """The loop's policies and judges, its aims, and the arms at the end."""
    figures = read_results("meta_rewarding")["figures"]
    lead = [[" over ".join(LOOP_ARMS[arm] for arm in pair.split(" over ")), show_gain(entry)]
            for pair, entry in figures["ahead"].items()]
    return with_origin("meta_rewarding", tabulate_loop(figures), tabulate_aims(figures),
                       make_table(["ahead in win rate at the end", "points"], lead))
