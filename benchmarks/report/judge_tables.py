"""Tables of judges: ratings, agreement with people, and how far attacks move a score."""

from benchmarks.report.tables import WORLDS, Figures, make_row, make_table, read_results, show, show_gain, with_origin
from benchmarks.shared.results import summarise


def percent(entry: Figures | None, name: str, digits: int = 0) -> str:
    """A share in percent, a dash where there is none."""
    return "-" if entry is None or entry[name] is None else f"{100 * entry[name]:.{digits}f}"


def interval(entry: Figures | None, name: str, digits: int = 1) -> str:
    """A share in percent with its 95 % interval."""
    if entry is None or entry[name] is None:
        return "-"
    ends = "" if entry["low"] is None else f" [{percent(entry, 'low', digits)}, {percent(entry, 'high', digits)}]"
    return f"{percent(entry, name, digits)}{ends}"


def format_ratings() -> str:
    """Ratings: speed beside scikit-learn, weighted battles beside unweighted ones, planted biases."""
    figures = read_results("ratings")["figures"]
    speed = figures["speed"]
    schedules = list(next(iter(figures["order"].values())))
    order = [[judge, *make_row(way, [entries[schedule][way] for schedule in schedules], 1, 3)]
             for judge, entries in figures["order"].items() for way in entries[schedules[0]]]
    biases = [[name, percent(entry, "planted"), interval(entry["first_judges"][0], "measured"), entry["judges"],
               percent(entry, "covered", 1)] for name, entry in figures["biases"].items()]
    return with_origin(
        "ratings",
        make_table(["prompts", "rmkit, one call, s", "scikit-learn, a loop, s", "times", "largest difference"], [[
            f"{speed['prompts']:,}", f"{speed['seconds']:.2f}", f"{speed['scikit_learn_seconds']:.0f}",
            f"{speed['ratio']:.0f}", f"{speed['largest_difference']:.0e}"]]),
        make_table(["a judge that", "rated", *schedules], order),
        make_table(["bias", "planted, %", "measured, %", "simulated judges", "interval holds the truth, %"], biases),
    )


def format_judges() -> str:
    """Reward-model judges beside people and language models, and stated preferences against votes."""
    figures = read_results("judges")["figures"]
    rows, leads = [], []
    for name, entry in figures["tests"].items():
        people = entry["people"]
        rows.append([f"{WORLDS[name]}: a person", interval(people["with_others_majority"], "with_ties"),
                     interval(people["with_one"], "with_ties"), "-", "-"])
        spreads = {recipe: summarise([run["with_majority"]["with_ties"] for run in runs])
                   for recipe, runs in entry["reward_models"].items()}
        judges = {f"reward model, {recipe}, seed 0 (all: {show(spreads[recipe])})": runs[0]
                  for recipe, runs in entry["reward_models"].items()} | entry["judges"]
        for judge, found in judges.items():
            kappa = found["with_majority"]["kappa"]
            rows.append([f"{WORLDS[name]}: {judge}", interval(found["with_majority"], "with_ties"),
                         interval(found["with_one"], "with_ties"), "-" if kappa is None else f"{kappa:.2f}",
                         percent(found["length"], "longer")])
        leads += [[f"{WORLDS[name]}, {judge}", show_gain(lead)] for judge, lead in entry["first_less"].items()]
    validation = [make_row(name, [entry]) for group in ("mixtures", "recipes")
                  for name, entry in figures["validation"][group].items()]
    calibration = [make_row(way, [entry["error"], entry["brier"]], 1, 3)
                   for way, entry in figures["calibration"].items() if way != "pairs"]
    return with_origin(
        "judges",
        make_table(["agreement, %", "with the majority", "with single people", "Cohen's kappa",
                    "takes the longer, %"], rows),
        make_table(["robust reward model minus", "points"], leads),
        make_table(["training mixture or recipe", "validation accuracy, %"], validation),
        make_table(["stated preference, held-out topics", "calibration error", "Brier"], calibration),
    )


def format_language_judges() -> str:
    """A small language model as a judge, and how far attacks move its score."""
    figures = read_results("language_judges")["figures"]
    attacks, rows = figures["attacks"], []
    runs = {f"{title}: {question}, {way}": entry for title, questions in figures["rounds"].items()
            for question, ways in questions.items() for way, entry in ways.items()}
    for title, entry in runs.items():
        asked = entry["answers"]["asked"]
        used = (entry["scores"] or {}).get("saturation")
        rows.append([
            title, f"{entry['answers']['unparsed']} of {asked}", interval(entry["agreement"], "with_ties"),
            percent(entry["agreement"], "without_ties"), percent(entry, "tie_rate"), percent(used, "top"),
            "-" if used is None else f"{abs(used['entropy']):.2f}", interval(entry["position"], "first"),
            percent(entry["position"], "consistent"), interval(entry["length"], "longer"),
            percent((entry["scores"] or entry)["consistency"], "equal"), f"{entry['cost']['seconds'] / asked:.2f}",
        ])
    moves = []
    for family, entry in {**attacks["families"], "all": attacks["all"]}.items():
        attack, control = entry["attack"], entry["control"]
        moves.append([family, attacks["attacks"].get(family, sum(attacks["attacks"].values())),
                      percent(attack, "moved"), percent(attack, "raised"), percent(control, "raised"),
                      f"{attack['shift']:+.2f}", f"{control['shift']:+.2f}", percent(attack, "far"),
                      percent(attack, "rewritten"), percent(control, "rewritten")])
    naming = {"attacks that contain a 5": attacks["naming"]["True"], "other attacks": attacks["naming"]["False"],
              "a harmless sentence with a 5": attacks["all"]["number"]}
    return with_origin(
        "language_judges",
        make_table(["answers, question, read as", "unparsed", "agreement, %", "without ties, %", "ties, %",
                    "at the top, %", "entropy", "shown first, %", "same in both orders, %", "takes the longer, %",
                    "two draws equal, %", "seconds"], rows),
        make_table(["appended to a response", "attacks", "moves the score, %", "raises it, %", "control",
                    "shift, points of 5", "control", "far, %", "another digit, %", "control"], moves),
        make_table(["appended", "raises the score, %", "shift"],
                   [[name, percent(entry, "raised"), f"{entry['shift']:+.2f}"] for name, entry in naming.items()]),
    )


def format_judge_attacks() -> str:
    """What attacks do to the scores of reward models."""
    figures = read_results("judge_attacks")["figures"]
    columns = (("raised", 100, 1), ("shift", 1, 2), ("pairs_turned", 100, 1))
    rows = [[family, figures["attacks"][family], *(show(entry[kind][name], factor, digits)
                                                   for name, factor, digits in columns
                                                   for kind in ("attack", "control"))]
            for family, entry in figures["families"].items()]
    return with_origin("judge_attacks", make_table(
        ["appended", "attacks", "score rises, %", "control", "shift, points of 5", "control", "pairs turned, %",
         "control"], rows))
