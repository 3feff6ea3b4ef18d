"""Tables of the studies of labels: voting, repair, kinds of voters, contrastive terms."""

from collections.abc import Mapping

from benchmarks.report.tables import (
    MAIN_TEST,
    WAYS,
    WORLDS,
    Figures,
    compare,
    make_row,
    make_table,
    read_results,
    show,
    show_gain,
    with_origin,
)

PLAIN, CHOSEN = "plain BT", "best recipe"
KINDS = {"uniform": "uniform", "small_gap": "small gap", "longer": "favours longer"}


def tabulate_repair(by_rate: Mapping[str, Figures], test: str) -> str:
    """Accuracy on one test set by method, and of the best recipe relative to training on clean labels."""
    columns = by_rate.values()
    rows = [make_row(line, [column["accuracy"][line][test] for column in columns]) for line in by_rate["0"]["accuracy"]]
    rows.append(make_row(f"{CHOSEN} / {PLAIN} on clean labels",
                         [column["share_of_clean"][CHOSEN][test] for column in columns]))
    return make_table(["accuracy, %; labels flipped:", *(f"{100 * float(rate):g} %" for rate in by_rate)], rows)


def tabulate_noise(by_rate: Mapping[str, Figures]) -> str:
    """The estimated noise rate with its interval, and the AUROC with which each way of voting finds the flips."""
    columns = list(by_rate.values())
    rows = [make_row(f"estimated noise, %: {end}", [column["estimated_rate"][end] for column in columns])
            for end in ("rate", "low", "high")]
    rows += [make_row(f"AUROC of flips: {way}", [column["auroc"].get(way) for column in columns], 1, 3)
             for way in columns[-1]["auroc"]]
    return make_table(["labels flipped:", *(f"{100 * float(rate):g} %" for rate in by_rate)], rows)


def format_gold() -> str:
    """The gold world: accuracies, flips found, reward models fine-tuned by DeepSpeed."""
    figures = read_results("gold")["figures"]
    kinds = [make_row(kind, [entries[way] for way in ("ceiling", *WAYS)], 1, 3)
             for kind, entries in figures["by_kind"].items()]
    tuned = figures["fine_tuned"]
    return with_origin(
        "gold",
        *(f"**{test}**\n\n{tabulate_repair(figures['by_rate'], test)}" for test in ("gold", "in_distribution")),
        tabulate_noise(figures["by_rate"]),
        make_table(["AUROC of flips", "the true gap", *WAYS], kinds),
        make_table(["RM fine-tuned by DeepSpeed on", *tuned["clean labels"]],
                   [make_row(name, entries.values()) for name, entries in tuned.items()]),
    )


def format_ukp() -> str:
    """UKPConvArg1: accuracies, flips found, correlation with the annotators' vote share."""
    figures = read_results("ukp")["figures"]
    correlation = figures["vote_share_correlation"]
    return with_origin(
        "ukp", tabulate_repair(figures["by_rate"], "held_out"), tabulate_noise(figures["by_rate"]),
        make_table(["", *correlation],
                   [make_row("rank correlation of strength and vote share", correlation.values(), 1, 3)]),
    )


def tabulate_tenths(world: Figures, test: str, loss: str) -> str:
    """What a reward model learns from each tenth of the pairs by strength."""
    rows = [[number, show(tenth["strength"], 1, 2), show(tenth["wrong"]), show(tenth["as labelled"][test]),
             show(tenth["flipped"][test])] for number, tenth in enumerate(world["tenths"][loss], 1)]
    return make_table(["tenth by strength", "mean strength", "wrong labels, %", "accuracy, as labelled", "flipped"],
                      rows)


def compare_strongest(world: Figures, test: str) -> str:
    """Accuracy of the tenth of highest strength minus the mean of the five tenths before it."""
    tenths = [tenth["as labelled"][test]["values"] for tenth in world["tenths"]["symmetric"]]
    before = [sum(values) / len(values) for values in zip(*tenths[4:9], strict=True)]
    return show_gain(compare({"values": tenths[9]}, {"values": before}))


def tabulate_growth(figures: Figures) -> str:
    """AUROC for wrong labels by the number of voters."""
    return make_table(["AUROC, wrong labels; voters:", *figures["members"]], [
        make_row(f"{WORLDS[name]}, {way}", entries, 1, 3)
        for name, world in figures["worlds"].items() for way, entries in world["growth"].items()])


def tabulate_ways(figures: Figures) -> str:
    """By way of voting: AUROC for wrong labels, and rank correlation with what people or GPT-4 say."""
    entries = {f"AUROC, wrong labels, {WORLDS[name]}": world["auroc"] for name, world in figures["worlds"].items()}
    entries |= {f"rank correlation, {WORLDS[name]}, {grade}": by_way
                for name, grades in figures["grades"].items() for grade, by_way in grades.items()}
    return make_table(["", *WAYS], [make_row(title, map(by_way.get, WAYS), 1, 3) for title, by_way in entries.items()])


def format_preference_strength() -> str:
    """Tenths by strength, the number of voters, ways of voting."""
    figures = read_results("preference_strength")["figures"]
    worlds = figures["worlds"]
    return with_origin(
        "preference_strength",
        *(f"**{WORLDS[name]}**\n\n{tabulate_tenths(world, MAIN_TEST[name], 'symmetric')}"
          for name, world in worlds.items()),
        make_table(["", *map(WORLDS.get, worlds)], [[
            "highest tenth minus the mean of the five before it, points",
            *(compare_strongest(world, MAIN_TEST[name]) for name, world in worlds.items())]]),
        tabulate_growth(figures), tabulate_ways(figures),
    )


def name_cell(key: str) -> str:
    """A share and a kind of noise, such as "20 % small gap"."""
    kind, rate = key.split()
    return f"{100 * float(rate):g} % {KINDS[kind]}"


def tabulate_denoising(cells: Mapping[str, Figures]) -> str:
    """Accuracy of every method on clean test pairs by kind and share of noise, and the chosen recipe's gain."""
    columns = [cell["accuracy"] for cell in cells.values()]
    rows = [make_row(line, [column[line] for column in columns]) for line in columns[0]]
    gains = [show_gain(compare(column[CHOSEN], column[PLAIN])) for column in columns]
    return make_table(["accuracy, %", *map(name_cell, cells)], [*rows, [f"gain of {CHOSEN} over {PLAIN}", *gains]])


def tabulate_flips(cells: Mapping[str, Figures]) -> str:
    """What flipping the estimated fraction finds and adds, and the calibration error of the final models."""
    columns = list(cells.values())
    rows = [make_row("estimated noise, %", [cell["estimated_rate"] for cell in columns])]
    rows += [make_row(f"flips, {way}: {figure.replace('_', ' ')}, %", [cell["flips"][way][figure] for cell in columns])
             for way in WAYS[:2] for figure in ("precision", "recall", "wrong_after")]
    rows += [make_row(f"calibration error, {model}", [cell["calibration"][model]["error"] for cell in columns])
             for model in columns[0]["calibration"]]
    return make_table(["", *map(name_cell, cells)], rows)


def format_denoising() -> str:
    """Both tables for every data set."""
    sources = read_results("denoising")["figures"]["sources"]
    return with_origin("denoising", *(f"**{WORLDS[name]}**\n\n{tabulate_denoising(cells)}\n\n{tabulate_flips(cells)}"
                                      for name, cells in sources.items()))


def format_hh() -> str:
    """Accuracy of the models of the HH-RLHF run."""
    rows = [[name, metrics["pairs"], f"{metrics['accuracy']:.3f}",
             f"[{metrics['accuracy_low']:.3f}, {metrics['accuracy_high']:.3f}]"]
            for name, metrics in read_results("hh")["figures"]["metrics"].items()]
    return with_origin("hh", make_table(["model", "pairs", "accuracy", "95 % interval"], rows))


def format_ensembles() -> str:
    """What each kind of voter costs and finds."""
    figures = read_results("ensembles")["figures"]
    rows = [[kind, show(figures["seconds"][kind], 1), show(figures["auroc"][kind], 1, 3),
             show(figures["correlation"][kind], 1, 3), show(figures["accuracy"][kind])] for kind in ("full", "heads")]
    rows.append(["none: labels as they are", "-", "-", "-", show(figures["accuracy"]["labels as they are"])])
    costs = [[name, show(figures["ratio"][name], 1, 2)] for name in ("full / one of them", "heads / one head")]
    return with_origin(
        "ensembles",
        make_table(["ten voters", "processor time, s", "AUROC of flips", "rank correlation with full",
                    "accuracy after repair, %"], rows),
        make_table(["cost of ten voters", "times the cost"], costs),
    )


def tabulate_contrastive(study: Figures) -> str:
    """Accuracies, paired gains over plain Bradley-Terry, and training time relative to it."""
    tests, seconds = list(study["accuracy"]["BT"]), study["seconds"]
    rows = [[*make_row(arm, map(entries.get, tests)), f"{seconds[arm]['mean'] / seconds['BT']['mean']:.1f}"]
            for arm, entries in study["accuracy"].items()]
    rows += [[f"gain: {arm.removeprefix('BT ')}", *(show_gain(gains[test]) for test in tests), ""]
             for arm, gains in study["gain"].items()]
    return make_table(["accuracy, %", *tests, "time / BT"], rows)


def tabulate_geometry(study: Figures) -> str:
    """What the terms do to embeddings."""
    geometry = study["geometry"]
    return make_table(["embeddings, one seed", *geometry["BT"]],
                      [make_row(arm, map(entry.get, geometry["BT"]), 1, 3) for arm, entry in geometry.items()])


def format_contrastive() -> str:
    """Both tasks, with the learning rates tried."""
    parts = []
    for name, study in read_results("contrastive")["figures"].items():
        tried = study["validation_by_learning_rate"]
        rates = make_table(["learning rate", *(f"{float(rate):g}" for rate in tried)],
                           [["plain BT on validation pairs, %", *(f"{100 * value:.1f}" for value in tried.values())]])
        parts += [f"**{WORLDS[name]}**", tabulate_contrastive(study), tabulate_geometry(study), rates]
    return with_origin("contrastive", *parts)
