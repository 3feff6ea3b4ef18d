"""Tables and the answer of the study of the meta-rewarding loop, and which of its aims were met."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.label_repair.trial import show
from benchmarks.report.policies import show_difference
from benchmarks.report.studies import compare, make_table
from benchmarks.report.tables import origin, read_results, show_gain
from benchmarks.shared.results import summarise

ARMS = {"meta": "Meta-Rewarding", "self": "Self-Rewarding with length control", "reward": "reward models judge"}
COLUMNS = {  # figure -> heading, factor, digits
    "win_rate": ("win rate, %", 100, 1), "win_rate_lc": ("at equal lengths", 100, 1), "gold": ("gold reward", 1, 2),
    "characters": ("length / SFT's", 1, 2), "kl": ("KL", 1, 1), "spearman": ("judge's Spearman", 1, 3),
    "score": ("score it gives", 1, 1), "top": ("at the top, %", 100, 0), "first": ("first judgment wins, %", 100, 0),
    "higher": ("higher score wins, %", 100, 0),
}
MOST = 0.1  # that length may move
MISSED = "**missed**"

Figures = Mapping[str, Any]


def find_lengths(policies: Sequence[Figures]) -> list[dict[str, Any]]:
    """By policy: characters of its responses over those of the first one's, of the same seed."""
    first = policies[0]["length"]["values"]
    return [summarise([own / one for own, one in zip(policy["length"]["values"], first, strict=True)])
            for policy in policies]


def list_policies(policies: Sequence[Figures]) -> list[dict[str, Any]]:
    """An arm's policies with the figures of `COLUMNS` by name."""
    return [
        {**policy, "characters": length, "spearman": find_judge(policy, "spearman"),
         "score": find_judge(policy, "score")}
        for policy, length in zip(policies, find_lengths(policies), strict=True)
    ]


def find_judge(policy: Figures, figure: str) -> Mapping[str, Any] | None:
    """A figure of the arm's judge, of whichever kind it is; none where there was none yet."""
    found: Mapping[str, Any] | None = policy.get(f"{figure}_reward") or policy.get(f"{figure}_language")
    return found


def tabulate_policies(figures: Figures) -> str:
    """Every arm's policies by iteration."""
    by_arm = {arm: list_policies(policies) for arm, policies in figures["by_arm"].items()}
    shown = {name: column for name, column in COLUMNS.items()
             if any(policy.get(name) for policies in by_arm.values() for policy in policies)}
    rows = [
        [f"{ARMS[arm]}, {place or 'SFT'}", *(show(policy.get(name), factor, digits)
                                             for name, (_, factor, digits) in shown.items())]
        for arm, policies in by_arm.items() for place, policy in enumerate(policies)
    ]
    return make_table(["arm, iteration", *(heading for heading, _, _ in shown.values())], rows)


def find_steps(policies: Sequence[Figures]) -> list[dict[str, Any]]:
    """What each iteration adds to the win rate."""
    return [compare(after["win_rate"], before["win_rate"])
            for before, after in zip(policies, policies[1:], strict=False)]


def find_learning(policies: Sequence[Figures]) -> dict[str, Any] | None:
    """What the judge's Spearman gains from the first policy that has a judge to that of iteration 2."""
    seen = [found for found in (find_judge(policy, "spearman") for policy in policies[:3]) if found]
    return compare(seen[-1], seen[0]) if len(seen) > 1 else None


def tell_whether(*differences: Figures) -> str:
    """Whether all of some differences are above zero: by their means, and by their intervals too."""
    if any(difference["mean"] <= 0 for difference in differences):
        return MISSED
    return "met" if all((difference["low"] or 0) > 0 for difference in differences) else "met, within chance"


def list_aims(figures: Figures) -> list[tuple[str, str, str, str]]:
    """The aim, the arm it is asked of, whether the means over seeds meet it, and the numbers that say so."""
    aims = []
    for arm, policies in figures["by_arm"].items():
        steps = find_steps(policies)
        aims.append(("win rate rises in each iteration", ARMS[arm], tell_whether(*steps),
                     f"points: {'; '.join(map(show_gain, steps))}"))
        learning = find_learning(policies)
        if learning:
            aims.append(("judge's Spearman higher after iteration 2", ARMS[arm], tell_whether(learning),
                         show_difference(learning)))
        lengths = find_lengths(policies)[1:]
        farthest = max((length["mean"] for length in lengths), key=lambda mean: abs(mean - 1))
        seeds = [value for length in lengths for value in length["values"]]
        aims.append(("length within 10 % of SFT's", ARMS[arm], "met" if abs(farthest - 1) <= MOST else MISSED,
                     f"farthest mean {farthest:.2f}; seeds {min(seeds):.2f} to {max(seeds):.2f}"))
    if "reward over meta" in figures["ahead"]:
        lead = figures["ahead"]["reward over meta"]
        aims.append(("reward models ahead of the language model", "at the end", tell_whether(lead),
                     f"points of win rate: {show_gain(lead)}"))
    return aims


def count_aims(figures: Figures) -> str:
    """How many aims were met."""
    found = [whether for _, _, whether, _ in list_aims(figures)]
    return (f"of {len(found)} aims {found.count(MISSED)} are missed and {len(found) - found.count(MISSED)} met, "
            f"{found.count('met')} of these beyond chance")


def tabulate_aims(figures: Figures) -> str:
    """Which aims were met."""
    return make_table(["aim, of means over seeds", "arm", "", "differences within seeds"], list_aims(figures))


def answer_meta_rewarding(figures: Figures) -> str:
    """What the loop comes to, in a line."""
    ends = "; ".join(
        f"{ARMS[arm]} {show(policies[-1]['win_rate'])} % (Spearman of its judge "
        f"{show(find_judge(policies[-1], 'spearman'), 1, 2)})" for arm, policies in figures["by_arm"].items()
    )
    count = len(next(iter(figures["by_arm"].values()))) - 1
    return (f"Gold win rate against the model the loop began with, after {count} iterations: {ends}. "
            f"{count_aims(figures).capitalize()}.")


def format_meta_rewarding() -> str:
    """The block of benchmarks/README.md."""
    results = read_results("meta_rewarding")
    figures, school = results["figures"], results["figures"]["settings"]["school"]
    ahead = "; ".join(f"{ARMS[one]} over {ARMS[other]} {show_gain(lead)}"
                      for (one, other), lead in ((pair.split(" over "), lead)
                                                 for pair, lead in figures["ahead"].items()))
    return "\n\n".join(filter(None, [
        f"Means over {len(results['seeds'])} seeds ± standard deviation; differences with the 95 % t-interval of the "
        "paired ones, bold where it leaves out zero. Win rates by gold reward (13 at most) on "
        f"{school['evaluation']} prompts that no iteration trains on, ties half; KL in nats. The judge is asked of the "
        "SFT model's responses: its rank correlation with gold within a prompt, the mean score of 13 it gives; at the "
        "top is the share of the next iteration's scores that are the highest of the scale. As a meta-judge: how often "
        f"the judgment shown first wins, and the one of higher score (half would be no bias). {origin(results)}",
        tabulate_policies(figures),
        f"Ahead in win rate at the end, points: {ahead}." if ahead else "",
        tabulate_aims(figures),
    ]))
