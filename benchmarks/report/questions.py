"""The first paper's research questions, a paragraph each, with the numbers of the studies below them."""

from collections.abc import Mapping
from typing import Any

from benchmarks.label_repair.trial import show
from benchmarks.report.denoising import CHOSEN, PLAIN, find_best, find_noisiest, show_cell, show_gains
from benchmarks.report.policies import show_difference
from benchmarks.report.strength import compare_strongest
from benchmarks.report.studies import MAIN_TEST, WAYS, WORLDS, compare
from benchmarks.report.tables import read_results, show_gain

Figures = Mapping[str, Any]
REPAIRS = ("flip", "smooth", "soft", "drop", "margin", "flip+margin", "soft+margin")


def count_gains(entries: list[Mapping[str, Any]]) -> str:
    """Of differences with intervals: how many there are, and how many are above and below zero beyond chance."""
    above, below = sum(entry["low"] > 0 for entry in entries), sum(entry["high"] < 0 for entry in entries)
    return f"of {len(entries)} differences {above} above zero and {below} below it beyond chance"


def tell_which_hurt(strength: Figures, denoising: Figures) -> str:
    """Which labels hurt?"""
    found = []
    for name, test in MAIN_TEST.items():
        tenths = strength["worlds"][name]["tenths"]["symmetric"]
        low, third = tenths[0], tenths[2]
        found.append(
            f"{WORLDS[name]}: a model of the lowest tenth, {show(low['wrong'])} % of it wrong, orders "
            f"{show(low['as labelled'][test])} % of test pairs rightly, turned round {show(low['flipped'][test])} %; "
            f"of the third, {show(third['wrong'])} % wrong, {show(third['as labelled'][test])} %; the highest is worth "
            f"{compare_strongest(strength['worlds'][name], test)} points beside the five before it"
        )
    cost = []
    for name, cells in denoising["sources"].items():
        clean = cells["uniform 0"]["accuracy"][PLAIN]
        losses = [f"{show_cell(key)} {show_gain(compare(cells[key]['accuracy'][PLAIN], clean))}"
                  for key in (find_noisiest(cells, kind) for kind in ("uniform", "small_gap", "longer"))]
        cost.append(f"{WORLDS[name]}: {', '.join(losses)}")
    return (
        f"**Which labels hurt?** Those that the voters contradict, as the paper found. {'. '.join(found)}. Against the "
        "paper's reading, what a tenth teaches does not say how many of its labels are wrong: below zero, strength "
        "gathers the pairs that contradict all the others, right or wrong, and a tenth that is mostly right can "
        "unteach as thoroughly as one that is all wrong. Points that noise of each kind costs a plain reward model. "
        f"{'. '.join(cost)}."
    )


def tell_finding(strength: Figures, gold: Figures) -> str:
    """Does strength find them?"""
    worlds = "; ".join(
        f"{WORLDS[name]} {show(world['auroc'][WAYS[0]], 1, 3)} in-sample as in the paper, "
        f"{show(world['auroc'][WAYS[1]], 1, 3)} cross-fitted; one voter {show(world['growth']['in-sample'][0], 1, 3)}, "
        f"{strength['members'][-1]} voters {show(world['growth']['in-sample'][-1], 1, 3)}"
        for name, world in strength["worlds"].items()
    )
    kinds = "; ".join(f"{kind.replace('_', ' ')} {show(entry[WAYS[0]], 1, 3)} (the true gap "
                      f"{show(entry['ceiling'], 1, 3)})" for kind, entry in gold["by_kind"].items())
    people = "; ".join(
        f"{WORLDS[name]}, {grade}: {show(found[WAYS[0]], 1, 2)} in-sample, {show(found[WAYS[1]], 1, 2)} cross-fitted"
        for name, grades in strength["grades"].items() for grade, found in grades.items()
    )
    return (
        f"**Does strength find them?** Where labels are wrong by chance, yes, with AUROC: {worlds}. To have seen the "
        "pairs does voters on frozen features no harm, and ten are no better than one, whose strength is a gap; the "
        "bounded loss matters more (tables below). By kind of noise in the gold world, the truth being the most that "
        f"can be had: {kinds}; what follows a rule that voters can learn is not found. On real labels as they came, "
        f"strength goes with how clear people find a pair, loosely, in rank correlation: {people}."
    )


def tell_remedies(denoising: Figures, gold: Figures) -> str:
    """Which remedy helps, and when?"""
    gains, recipes, calibration = [], [], []
    for name, cells in denoising["sources"].items():
        keys = ["uniform 0", *(find_noisiest(cells, kind) for kind in ("uniform", "small_gap", "longer"))]
        told = "; ".join(f"{show_cell(key)} {gain}"
                         for key, gain in zip(keys, show_gains(cells, CHOSEN, keys), strict=True))
        gains.append(f"{WORLDS[name]}: {told}")
        noisiest = cells[keys[1]]
        accuracy = noisiest["accuracy"]
        single = ", ".join(f"{line} {100 * (accuracy[line]['mean'] - accuracy[PLAIN]['mean']):+.1f}"
                           for line in (*REPAIRS, "symmetric loss"))
        recipes.append(f"{WORLDS[name]} {single}, best in hindsight {find_best(noisiest)}")
        error = {line: show(noisiest["calibration"][line]["error"]) for line in (PLAIN, CHOSEN)}
        calibration.append(f"{WORLDS[name]} {error[PLAIN]} and {error[CHOSEN]}")
    margin = "; ".join(f"{WORLDS[name]} {', '.join(show_gains(cells, 'margin', ['uniform 0']))}"
                       for name, cells in denoising["sources"].items())
    tuned = ", ".join(f"{name} {show(entry['gold'])}" for name, entry in gold["fine_tuned"].items())
    return (
        "**Which remedy helps, and when?** Nearly any, smoothing least, where voters know the task and the noise is no "
        "rule that they can learn; where they do not, as on UltraFeedback with a small encoder, nothing beyond chance. "
        "Points by which the recipe chosen on noisy validation pairs is above plain BT: "
        f"{'. '.join(gains)}. By recipe, under the most noise by chance: {'; '.join(recipes)}. The paper has soft "
        "labels with the margin ahead; here no recipe is ahead of all. The margin on labels as they came, which almost "
        f"always helps in the paper: {margin}. More "
        "accurate need not be better calibrated; calibration error of plain BT and of the chosen recipe under the most "
        f"noise by chance, %: {'; '.join(calibration)}. Fine-tuned whole, gold world with 30 % flipped, "
        f"right on %: {tuned}."
    )


def tell_contrastive(contrastive: Figures) -> str:
    """Do the contrastive terms generalise?"""
    parts = []
    for name, title, tests in (("ukp", "UKPConvArg1", ("in_distribution", "held_out")),
                               ("gold", "Gold world", ("in_distribution", "new_topics", "another_policy"))):
        gains = {arm: entry for arm, entry in contrastive[name]["gain"].items() if arm.startswith("BT + ")}
        told = "; ".join(f"{arm.removeprefix('BT + ')} {', '.join(show_gain(entry[test]) for test in tests)}"
                         for arm, entry in gains.items())
        counted = count_gains([entry[test] for entry in gains.values() for test in tests])
        parts.append(f"{title}, points over plain BT on {', '.join(tests)}: {told} ({counted})")
    return (
        f"**Do contrastive terms generalise?** Not here. {'. '.join(parts)}. The paper found all four slightly better "
        "than plain BT and SimCSE on pairs best, with models of 7B; its betas are kept here, where models are small "
        "and the learning rate is high."
    )


def tell_metarm(metarm: Figures, scratch: Figures, rounds: Figures, best: Figures) -> str:
    """Does MetaRM generalise?"""
    gains = "; ".join(f"{show_gain(entry['gain'])} at {entry['plain']['kl']['mean']:.1f} nats"
                      for entry in metarm["distances"].values())
    farthest = list(scratch["distances"].values())[-1]
    last = rounds["ahead"][-1]
    chosen = ", ".join(show_difference(curves["MetaRM"]["gain"]) for curves in best["curves"].values())
    return (
        "**Does MetaRM generalise?** Not beyond chance. Gold world, points of accuracy over a plain reward model on "
        f"responses of a policy away from SFT: {gains}. Trained anew rather than on from a trained model, "
        f"{show_gain(farthest['gain'])} at the farthest, which mixes it with what any other model would gain there. "
        f"After four rounds of reinforcement the policy is {show_difference(last['gold'])} in gold reward ahead of the "
        f"plain arm's. As best of {best['sizes'][-1]:,}, its choice is worth {chosen} in gold more than the plain "
        "model's, of responses like the pairs' and of another policy. The papers report gains that grow with "
        "the rounds. Nobody has labelled a policy's own responses here, so that this has the gold world alone."
    )


def format_questions() -> str:
    """The block at the top of benchmarks/README.md."""
    read = {name: read_results(name)["figures"] for name in (
        "preference_strength", "denoising", "gold", "contrastive", "metarm", "metarm_scratch", "iterative_rlhf",
        "overoptimization",
    )}
    return "\n\n".join([
        tell_which_hurt(read["preference_strength"], read["denoising"]),
        tell_finding(read["preference_strength"], read["gold"]),
        tell_remedies(read["denoising"], read["gold"]),
        tell_contrastive(read["contrastive"]),
        tell_metarm(read["metarm"], read["metarm_scratch"], read["iterative_rlhf"], read["overoptimization"]),
    ])
