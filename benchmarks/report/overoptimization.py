"""Tables and the answer of the study of best-of-n."""

from collections.abc import Mapping
from typing import Any

from benchmarks.label_repair.trial import show
from benchmarks.report.policies import show_difference
from benchmarks.report.studies import make_table
from benchmarks.report.tables import origin, read_results

POLICIES = {"in_distribution": "the policy that the pairs were drawn from", "another_policy": "another policy"}
SHOWN = (1, 4, 16, 64, 256, 1024)
GOLD = "gold itself"


def answer_overoptimization(figures: Mapping[str, Any]) -> str:
    """Where each reward model turns over, in a line."""
    parts = []
    for split, title in POLICIES.items():
        curves = {name: found for name, found in figures["curves"][split].items() if name != GOLD}
        named = "; ".join(
            f"{name} {found['turnover']:,} (then -{found['lost']['mean']:.2f})" for name, found in curves.items()
        )
        parts.append(f"Responses of {title}: {named}")
    return (f"The n up to {figures['sizes'][-1]:,} at which the best of n is worth most in gold, and what is lost from "
            f"there to the end. {'. '.join(parts)}.")


def tabulate_overoptimization(figures: Mapping[str, Any], split: str) -> str:
    """Gold reward by n, where it is highest, and what the reward model gains over a single one at the largest n."""
    sizes = figures["sizes"]
    shown = [n for n in SHOWN if n in sizes]
    rows = []
    for name, found in figures["curves"][split].items():
        values = [f"{found['gold'][sizes.index(n)]['mean']:.2f}" for n in shown]
        by_seed = ", ".join(f"{n:,}" for n in sorted(found["turnover_by_seed"]))
        rows.append([name, *values, f"{found['turnover']:,} ({by_seed})", show_difference(found["lost"]),
                     show_difference(found["gain"])])
    return make_table(["best of", *(f"{n:,}" for n in shown), "highest at n (by seed)", "lost from there to the end",
                       f"gain over one, best of {sizes[-1]:,}"], rows)


def describe_steps(figures: Mapping[str, Any]) -> str:
    """What MetaRM's step sizes are worth on the noisy validation pairs from which they are chosen, in a line."""
    meta = figures["meta"]
    parts = []
    for split, title in POLICIES.items():
        tried = ", ".join(f"{size} {show(entry)}" for size, entry in meta["tried"][split].items())
        parts.append(f"with responses of {title} {tried}, chosen by seed {', '.join(meta['chosen'][split])}")
    return (f"MetaRM's step size is chosen by accuracy on the noisy validation pairs, % (plain {show(meta['plain'])}): "
            f"{'; '.join(parts)}.")


def format_overoptimization() -> str:
    """What the best of n by each reward model is worth in gold."""
    results = read_results("overoptimization")
    figures = results["figures"]
    return "\n\n".join([
        f"Gold reward, 13 at most, of the response that a reward model puts first of n; {figures['prompts']} prompts "
        f"of each kind with {figures['responses']:,} responses each, unbiased for every n; "
        f"{100 * figures['rate']:.0f} % of the training labels flipped; heads on frozen features. Means over "
        f"{len(results['seeds'])} seeds, in brackets the 95 % t-interval of paired differences, bold where it leaves "
        f"out zero. {origin(results)}",
        *(f"Responses of {title}:\n\n{tabulate_overoptimization(figures, split)}"
          for split, title in POLICIES.items()),
        describe_steps(figures),
    ])
