"""Tables of the studies of labels: voting, repair, kinds of voters, contrastive terms."""

from collections.abc import Mapping, Sequence

from benchmarks.report.tables import (
    MAIN_TEST,
    WAYS,
    WORLDS,
    Figures,
    compare,
    make_table,
    origin,
    read_results,
    show,
    show_gain,
)

PLAIN, CHOSEN = "plain BT", "best recipe"
KINDS = {"uniform": "uniform", "small_gap": "small gap", "longer": "favours longer"}


def tabulate_repair(by_rate: Mapping[str, Figures], test: str) -> str:
    """Accuracy on one test set by method, and of the best recipe relative to training on clean labels."""
    columns = list(by_rate.values())
    rows = [[line, *(show(column["accuracy"][line][test]) for column in columns)] for line in columns[0]["accuracy"]]
    rows.append([f"{CHOSEN} / {PLAIN} on clean labels", *(show(column["share_of_clean"][CHOSEN][test])
                                                          for column in columns)])
    return make_table(["accuracy, %; labels flipped:", *(f"{100 * float(rate):g} %" for rate in by_rate)], rows)


def tabulate_noise(by_rate: Mapping[str, Figures]) -> str:
    """The estimated noise rate with its interval, and the AUROC with which each way of voting finds the flips."""
    columns = list(by_rate.values())
    rows = [[f"estimated noise, %: {end}", *(show(column["estimated_rate"][end]) for column in columns)]
            for end in ("rate", "low", "high")]
    rows += [[f"AUROC of flips: {way}", *(show(column["auroc"].get(way), 1, 3) for column in columns)]
             for way in columns[-1]["auroc"]]
    return make_table(["labels flipped:", *(f"{100 * float(rate):g} %" for rate in by_rate)], rows)


def format_gold() -> str:
    """The gold world: accuracies, flips found, reward models fine-tuned by DeepSpeed."""
    figures = read_results("gold")["figures"]
    kinds = [[kind, *(show(entries[way], 1, 3) for way in ("ceiling", *WAYS))]
             for kind, entries in figures["by_kind"].items()]
    tuned = figures["fine_tuned"]
    tests = list(next(iter(tuned.values())))
    return "\n\n".join([
        origin("gold"),
        *(f"**{test}**\n\n{tabulate_repair(figures['by_rate'], test)}" for test in ("gold", "in_distribution")),
        tabulate_noise(figures["by_rate"]),
        make_table(["AUROC of flips", "the true gap", *WAYS], kinds),
        make_table(["RM fine-tuned by DeepSpeed on", *tests],
                   [[name, *(show(entries[test]) for test in tests)] for name, entries in tuned.items()]),
    ])


def format_ukp() -> str:
    """UKPConvArg1: accuracies, flips found, correlation with the annotators' vote share."""
    figures = read_results("ukp")["figures"]
    correlation = figures["vote_share_correlation"]
    return "\n\n".join([
        origin("ukp"), tabulate_repair(figures["by_rate"], "held_out"), tabulate_noise(figures["by_rate"]),
        make_table(["", *correlation], [["rank correlation of strength and vote share",
                                         *(show(entry, 1, 3) for entry in correlation.values())]]),
    ])


def tabulate_tenths(world: Figures, test: str, loss: str) -> str:
    """What a reward model learns from each tenth of the pairs by strength."""
    rows = [[place, show(tenth["strength"], 1, 2), show(tenth["wrong"]), show(tenth["as labelled"][test]),
             show(tenth["flipped"][test])] for place, tenth in enumerate(world["tenths"][loss], 1)]
    return make_table(["tenth by strength", "mean strength", "wrong labels, %", "accuracy, as labelled", "flipped"],
                      rows)


def compare_strongest(world: Figures, test: str) -> str:
    """Accuracy of the tenth of highest strength minus the mean of the five tenths before it."""
    tenths = [tenth["as labelled"][test]["values"] for tenth in world["tenths"]["symmetric"]]
    before = [sum(values) / len(values) for values in zip(*tenths[4:9], strict=True)]
    return show_gain(compare({"values": tenths[9]}, {"values": before}))


def tabulate_growth(figures: Figures) -> str:
    """AUROC for wrong labels by the number of voters."""
    rows = [[f"{WORLDS[name]}, {way}", *(show(entry, 1, 3) for entry in entries)]
            for name, world in figures["worlds"].items() for way, entries in world["growth"].items()]
    return make_table(["AUROC, wrong labels; voters:", *figures["members"]], rows)


def tabulate_ways(figures: Figures) -> str:
    """By way of voting: AUROC for wrong labels, and rank correlation with what people or GPT-4 say."""
    rows = [[f"AUROC, wrong labels, {WORLDS[name]}", *(show(world["auroc"][way], 1, 3) for way in WAYS)]
            for name, world in figures["worlds"].items()]
    rows += [[f"rank correlation, {WORLDS[name]}, {grade}", *(show(entries[way], 1, 3) for way in WAYS)]
             for name, grades in figures["grades"].items() for grade, entries in grades.items()]
    return make_table(["", *WAYS], rows)


def format_preference_strength() -> str:
    """Tenths by strength, the number of voters, ways of voting."""
    figures = read_results("preference_strength")["figures"]
    worlds = figures["worlds"]
    return "\n\n".join([
        origin("preference_strength"),
        *(f"**{WORLDS[name]}**\n\n{tabulate_tenths(world, MAIN_TEST[name], 'symmetric')}"
          for name, world in worlds.items()),
        make_table(["", *map(WORLDS.get, worlds)], [[
            "highest tenth minus the mean of the five before it, points",
            *(compare_strongest(world, MAIN_TEST[name]) for name, world in worlds.items())]]),
        tabulate_growth(figures), tabulate_ways(figures),
    ])


def name_cell(key: str) -> str:
    """A share and a kind of noise, such as "20 % small gap"."""
    kind, rate = key.split()
    return f"{100 * float(rate):g} % {KINDS[kind]}"


def tabulate_denoising(cells: Mapping[str, Figures]) -> str:
    """Accuracy of every method on clean test pairs by kind and share of noise, and the chosen recipe's gain."""
    columns = [cell["accuracy"] for cell in cells.values()]
    rows = [[line, *(show(column[line]) for column in columns)] for line in columns[0]]
    rows.append([f"gain of {CHOSEN} over {PLAIN}", *(show_gain(compare(column[CHOSEN], column[PLAIN]))
                                                     for column in columns)])
    return make_table(["accuracy, %", *map(name_cell, cells)], rows)


def tabulate_flips(cells: Mapping[str, Figures]) -> str:
    """What flipping the estimated fraction finds and adds, and the calibration error of the final models."""
    columns = list(cells.values())
    rows = [["estimated noise, %", *(show(cell["estimated_rate"]) for cell in columns)]]
    rows += [[f"flips, {way}: {figure.replace('_', ' ')}, %", *(show(cell["flips"][way][figure]) for cell in columns)]
             for way in WAYS[:2] for figure in ("precision", "recall", "wrong_after")]
    rows += [[f"calibration error, {model}", *(show(cell["calibration"][model]["error"]) for cell in columns)]
             for model in columns[0]["calibration"]]
    return make_table(["", *map(name_cell, cells)], rows)


def format_denoising() -> str:
    """Both tables for every data set."""
    sources = read_results("denoising")["figures"]["sources"]
    return "\n\n".join([origin("denoising"), *(
        f"**{WORLDS[name]}**\n\n{tabulate_denoising(cells)}\n\n{tabulate_flips(cells)}"
        for name, cells in sources.items())])


def format_hh() -> str:
    """Accuracy of the models of the HH-RLHF run."""
    rows = [[name, metrics["pairs"], f"{metrics['accuracy']:.3f}",
             f"[{metrics['accuracy_low']:.3f}, {metrics['accuracy_high']:.3f}]"]
            for name, metrics in read_results("hh")["figures"]["metrics"].items()]
    return f"{origin('hh')}\n\n{make_table(['model', 'pairs', 'accuracy', '95 % interval'], rows)}"


def format_ensembles() -> str:
    """What each kind of voter costs and finds."""
    figures = read_results("ensembles")["figures"]
    rows = [[kind, show(figures["seconds"][kind], 1), show(figures["auroc"][kind], 1, 3),
             show(figures["correlation"][kind], 1, 3), show(figures["accuracy"][kind])] for kind in ("full", "heads")]
    rows.append(["none: labels as they are", "-", "-", "-", show(figures["accuracy"]["labels as they are"])])
    costs = [[name, show(figures["ratio"][name], 1, 2)] for name in ("full / one of them", "heads / one head")]
    return "\n\n".join([
        origin("ensembles"),
        make_table(["ten voters", "processor time, s", "AUROC of flips", "rank correlation with full",
                    "accuracy after repair, %"], rows),
        make_table(["cost of ten voters", "times the cost"], costs),
    ])


def tabulate_contrastive(study: Figures) -> str:
    """Accuracies, paired gains over plain Bradley-Terry, and training time relative to it."""
    tests, seconds = list(study["accuracy"]["BT"]), study["seconds"]
    rows = [[arm, *(show(entries[test]) for test in tests), f"{seconds[arm]['mean'] / seconds['BT']['mean']:.1f}"]
            for arm, entries in study["accuracy"].items()]
    rows += [[f"gain: {arm.removeprefix('BT ')}", *(show_gain(gains[test]) for test in tests), ""]
             for arm, gains in study["gain"].items()]
    return make_table(["accuracy, %", *tests, "time / BT"], rows)


def tabulate_geometry(study: Figures) -> str:
    """What the terms do to embeddings."""
    measures: Sequence[str] = list(study["geometry"]["BT"])
    return make_table(["embeddings, one seed", *measures],
                      [[arm, *(show(entry[name], 1, 3) for name in measures)]
                       for arm, entry in study["geometry"].items()])


def format_contrastive() -> str:
    """Both tasks, with the learning rates tried."""
    figures = read_results("contrastive")["figures"]
    parts = [origin("contrastive")]
    for name, study in figures.items():
        tried = study["validation_by_learning_rate"]
        rates = make_table(["learning rate", *(f"{float(rate):g}" for rate in tried)],
                           [["plain BT on validation pairs, %", *(f"{100 * value:.1f}" for value in tried.values())]])
        parts += [f"**{WORLDS[name]}**", tabulate_contrastive(study), tabulate_geometry(study), rates]
    return "\n\n".join(parts)
