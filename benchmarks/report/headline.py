"""The headline results: one line each, with the notebook that shows them and the command that measures them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.label_repair.trial import show
from benchmarks.report.denoising import CHOSEN, PLAIN, find_noisiest, show_cell, show_gains
from benchmarks.report.meta_rewarding import ARMS, count_aims, find_judge
from benchmarks.report.policies import show_difference
from benchmarks.report.studies import WORLDS
from benchmarks.report.tables import read_results, show_gain

Figures = Mapping[str, Any]


class Headline(NamedTuple):
    """What was asked, the results file that answers it, how it is said, and the notebook that shows it, if any."""

    question: str
    results: str
    tell: Callable[[Figures], str]
    notebook: str | None = None


def tell_voting(figures: Figures) -> str:
    """Flips found, and what the best recipe makes of them."""
    noisy = figures["by_rate"]["0.3"]
    test = "gold" if "gold" in noisy["share_of_clean"]["best recipe"] else "held_out"
    accuracy = noisy["accuracy"]
    return (f"AUROC {show(noisy['auroc']['symmetric, in-sample'], 1, 3)}; plain BT {show(accuracy['plain BT'][test])} %"
            f", repaired {show(accuracy['best recipe'][test])} %: "
            f"{show(noisy['share_of_clean']['best recipe'][test])} % of training on clean labels")


def tell_tenths(figures: Figures) -> str:
    """What the tenth of lowest strength is worth on real text."""
    world = figures["worlds"]["ukp_convarg1"]
    tenth = world["tenths"]["symmetric"][0]
    return (f"{show(tenth['wrong'])} % of its labels are wrong; a model of it alone reaches "
            f"{show(tenth['as labelled']['held_out'])} %, turned round {show(tenth['flipped']['held_out'])} %")


def tell_remedies(figures: Figures) -> str:
    """Gains of the chosen recipe at the most noise of each kind."""
    parts = []
    for name, cells in figures["sources"].items():
        keys = [find_noisiest(cells, kind) for kind in ("uniform", "longer")]
        gains = ", ".join(f"{show_cell(key)} {gain}"
                          for key, gain in zip(keys, show_gains(cells, CHOSEN, keys), strict=True))
        parts.append(f"{WORLDS[name]} {gains}")
    return f"{CHOSEN} over {PLAIN}, points: {'; '.join(parts)}"


def tell_voters(figures: Figures) -> str:
    """What cheap voters cost and find."""
    return "; ".join(f"{kind} AUROC {show(figures['auroc'][kind], 1, 3)} in {show(figures['seconds'][kind], 1, 0)} s"
                     for kind in ("full", "heads"))


def tell_contrastive(figures: Figures) -> str:
    """Gains on what was held out."""
    gains = figures["ukp"]["gain"]
    return "; ".join(f"{arm.removeprefix('BT + ')} {show_gain(gains[arm]['held_out'])}" for arm in gains
                     if arm.startswith("BT + "))


def tell_metarm(figures: Figures) -> str:
    """Gains by distance, and what they cost in distribution."""
    entries = figures["distances"].values()
    gains = "; ".join(f"{show_gain(entry['gain'])} at {entry['plain']['kl']['mean']:.1f} nats" for entry in entries)
    inside = "; ".join(show_gain(entry["tests"]["in_distribution"]) for entry in entries)
    return f"points of accuracy: {gains}; in distribution {inside}"


def tell_rounds(figures: Figures) -> str:
    """Gold reward of both arms, and their difference."""
    means = {arm: [entry["gold"]["mean"] for entry in rounds] for arm, rounds in figures["by_arm"].items()}
    arms = "; ".join(f"{arm} {', '.join(f'{mean:.2f}' for mean in own)}" for arm, own in means.items())
    return f"gold reward by round: {arms}; MetaRM ahead at the end {show_difference(figures['ahead'][-1]['gold'])}"


def tell_loop(figures: Figures) -> str:
    """Win rates at the end, and how the judges fared."""
    ends = "; ".join(
        f"{ARMS[arm]} {show(policies[-1]['win_rate'])} %, its judge's Spearman "
        f"{show(find_judge(policies[-1], 'spearman'), 1, 2)}" for arm, policies in figures["by_arm"].items()
    )
    return f"gold win rate against SFT: {ends}; {count_aims(figures)}"


def tell_best_of_n(figures: Figures) -> str:
    """Where one model and the robust one are at the largest n."""
    curves = figures["curves"]["in_distribution"]
    return "; ".join(f"{name} {show_difference(found['gain'])}" for name, found in curves.items()
                     if name not in ("one", "gold itself"))


def tell_throughput(figures: Figures) -> str:
    """Training against TRL's trainer."""
    names = {"hh_rlhf_test": "HH", "qa_feedback_dev": "QA"}
    return "; ".join(
        f"{names.get(contest['data'].partition('.')[0], contest['data'])} {contest['layers']} x {contest['hidden']}: "
        + ", ".join(f"{ratio['median']:.1f} times {side}" for side, ratio in contest["ratio"].items())
        for contest in figures["training"]
    )


HEADLINES = (
    Headline("Are flipped labels found, and does repair help? Gold world, 30 % flipped", "gold", tell_voting,
             "denoising"),
    Headline("The same on real text, UKPConvArg1", "ukp", tell_voting, "denoising"),
    Headline("What is the tenth of lowest strength worth? UKPConvArg1, 20 % flipped", "preference_strength",
             tell_tenths, "preference_strength"),
    Headline("Against which noise does repair help? Up to 2,000 pairs", "denoising", tell_remedies, "denoising"),
    Headline("Must ten voters cost ten models? UKPConvArg1, 30 % flipped", "ensembles", tell_voters,
             "preference_strength"),
    Headline("Do contrastive terms help? UKPConvArg1, held-out topics, points", "contrastive", tell_contrastive,
             "contrastive"),
    Headline("Does MetaRM still tell apart what a moved policy writes? Gold world", "metarm", tell_metarm, "metarm"),
    Headline("Does it keep a policy rising? Gold world, four rounds of RLOO", "iterative_rlhf", tell_rounds, "metarm"),
    Headline("Does the meta-rewarding loop improve a policy, and its judge? Gold world, four iterations",
             "meta_rewarding", tell_loop, "meta_rewarding"),
    Headline("Best of 1,024 by a reward model, gold gained over one RM; 30 % of the labels flipped", "overoptimization",
             tell_best_of_n, "overoptimization"),
    Headline("Training, pairs/s against TRL's RewardTrainer, one CPU thread", "throughput", tell_throughput,
             "throughput"),
)


def format_headlines() -> str:
    """The block of README.md."""
    lines = ["| question | answer | seeds | shown in, measured by |", "|---|---|---|---|"]
    for headline in HEADLINES:
        results = read_results(headline.results)
        shown = f"[notebook](benchmarks/{headline.notebook}.ipynb), " if headline.notebook else ""
        lines.append(f"| {headline.question} | {headline.tell(results['figures'])} | {len(results['seeds'])} | "
                     f"{shown}`{results['command']}` |")
    return "\n".join(lines)
