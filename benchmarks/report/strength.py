"""Tables and the answer of the study of preference strength."""

from collections.abc import Mapping
from typing import Any

from benchmarks.label_repair.trial import show
from benchmarks.report.studies import MAIN_TEST, WAYS, WORLDS, compare, make_table
from benchmarks.report.tables import origin, read_results, show_gain


def answer_strength(figures: Mapping[str, Any]) -> str:
    """What the strength study found, in a line."""
    parts = []
    for name, world in figures["worlds"].items():
        weakest = world["tenths"]["symmetric"][0]
        test = MAIN_TEST[name]
        parts.append(
            f"{WORLDS[name]}: AUROC {show(world['auroc'][WAYS[0]], 1, 2)} for wrong labels; of the tenth of lowest "
            f"strength {show(weakest['wrong'])} % are wrong, a model of it alone reaches "
            f"{show(weakest['as labelled'][test])} % as labelled and {show(weakest['flipped'][test])} % turned round"
        )
    people = "; ".join(
        f"{WORLDS[name]}, {grade} {show(found[WAYS[1]], 1, 2)}"
        for name, grades in figures["grades"].items() for grade, found in grades.items()
    )
    told = f". How clear people or GPT-4 find a pair it tells less well, in rank correlation: {people}" * bool(people)
    return f"Strength finds labels that are wrong by chance. {'. '.join(parts)}{told}."


def tabulate_tenths(world: Mapping[str, Any], test: str, loss: str) -> str:
    """What each tenth of the pairs by strength is worth."""
    rows = [
        [f"{place + 1}", show(tenth["strength"], 1, 2), show(tenth["wrong"]), show(tenth["as labelled"][test]),
         show(tenth["flipped"][test])]
        for place, tenth in enumerate(world["tenths"][loss])
    ]
    return make_table(["tenth by strength", "mean strength", "wrong labels, %", "accuracy, as labelled", "flipped"],
                      rows)


def compare_strongest(world: Mapping[str, Any], test: str) -> str:
    """What the tenth of highest strength teaches less than the five before it, on average."""
    tenths = [tenth["as labelled"][test] for tenth in world["tenths"]["symmetric"]]
    before = {"values": [sum(values) / len(values)
                         for values in zip(*(entry["values"] for entry in tenths[4:9]), strict=True)]}
    return show_gain(compare(tenths[9], before))


def tabulate_growth(figures: Mapping[str, Any]) -> str:
    """AUROC for wrong labels by the number of voters."""
    rows = [
        [f"{WORLDS[name]}, {way}", *(show(entry, 1, 3) for entry in entries)]
        for name, world in figures["worlds"].items() for way, entries in world["growth"].items()
    ]
    return make_table(["voters M", *map(str, figures["members"])], rows)


def tabulate_ways(figures: Mapping[str, Any]) -> str:
    """By way of voting: AUROC for wrong labels, and rank correlation with what people or GPT-4 say."""
    rows = [
        [f"AUROC, wrong labels, {WORLDS[name]}", *(show(world["auroc"][way], 1, 3) for way in WAYS)]
        for name, world in figures["worlds"].items()
    ]
    rows += [
        [f"rank correlation, {WORLDS[name]}, {grade}", *(show(found[way], 1, 3) for way in WAYS)]
        for name, grades in figures["grades"].items() for grade, found in grades.items()
    ]
    return make_table(["", *WAYS], rows)


def format_preference_strength() -> str:
    """The block of benchmarks/README.md."""
    results = read_results("preference_strength")
    figures = results["figures"]
    tenths = [
        f"{WORLDS[name]}, voters under the symmetric loss, in-sample:\n\n"
        + tabulate_tenths(world, MAIN_TEST[name], "symmetric") for name, world in figures["worlds"].items()
    ]
    strongest = "; ".join(f"{WORLDS[name]} {compare_strongest(world, MAIN_TEST[name])}"
                          for name, world in figures["worlds"].items())
    return "\n\n".join([
        f"{100 * figures['rate']:g} % of the labels flipped by chance; heads on frozen features; means over "
        f"{len(results['seeds'])} seeds ± standard deviation, percent of clean test pairs; `wrong` counts, in the gold "
        f"world, labels against the truly better response too. {origin(results)}",
        *tenths,
        "The tenth of highest strength against the mean of the five before it, points with the 95 % t-interval of "
        f"paired differences: {strongest}.",
        "AUROC with which strength finds wrong labels, by the number of voters:", tabulate_growth(figures),
        "By way of voting; against people and GPT-4 with the labels as they came:", tabulate_ways(figures),
    ])
