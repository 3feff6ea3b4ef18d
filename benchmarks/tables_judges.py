"""Tables of how good judges and ratings are."""

from collections.abc import Mapping
from typing import Any

from repair_study import show
from results import summarise
from tables import origin, read_results, show_gain


def format_ratings() -> str:
    """Ratings: speed, weighted battles against unweighted, planted biases, leagues."""
    results = read_results("ratings")
    figures = results["figures"]
    speed = figures["speed"]
    count = len(results["seeds"])
    schedules = list(figures["order"])
    ways = list(figures["order"][schedules[0]])
    order = [f"| rank correlation with the truth | {' | '.join(schedules)} |", "|---" * (len(schedules) + 1) + "|"]
    order += [f"| {way} | {' | '.join(show(figures['order'][schedule][way], 1, 3) for schedule in schedules)} |"
              for way in ways]
    leagues = ["| players | mean error | without the term | largest error | without the term | intervals that hold the "
               "truth | position term's |", "|---" * 7 + "|"]
    for size, found in figures["leagues"].items():
        cells = [*(f"{found[name]['mean']:.3f}" for name in (
            "error", "plain_error", "largest_error", "plain_largest_error")),
            *(f"{100 * found[name]['mean']:.1f} %" for name in ("covered", "position_covered"))]
        leagues.append(f"| {size} | {' | '.join(cells)} |")
    biases = []
    for name, found in figures["biases"].items():
        first = found["first_judges"][0]
        biases.append(f"{name} {100 * found['planted']:.0f} % measured as {100 * first['measured']:.1f} % "
                      f"[{100 * first['low']:.1f}, {100 * first['high']:.1f}], and of {found['judges']} such judges "
                      f"within the interval for {100 * found['covered']:.1f} %")
    return "\n\n".join([
        f"{speed['prompts']:,} prompts with 11 judgments each: {speed['seconds']:.2f} s in one call, "
        f"{speed['scikit_learn_seconds']:.0f} s as a loop of scikit-learn fits, **{speed['ratio']:.0f} times** as long "
        f"(one thread, processor time, in turns); ratings differ by {speed['largest_difference']:.0e} at most. "
        f"Simulated judges below: the first wins 70 %; means over {count} seeds ± standard deviation. "
        f"{origin(results)}",
        "\n".join(order),
        f"Planted biases, 1,000 pairs in both orders: {'; '.join(biases)}.",
        f"{figures['league_count']} simulated leagues of each size, 3,000 battles each, some players mostly shown "
        "first. Errors in logits; 95 % bootstrap intervals.",
        "\n".join(leagues),
    ])


def format_judges() -> str:
    """Reward-model judges beside people and language models, and stated preference against votes."""
    results = read_results("judges")
    figures = results["figures"]
    chosen = figures["validation"]["chosen"]
    titles = {"pandalm_test": "PandaLM", "tulu1_human_eval": "Tulu"}

    def ends(entry: Mapping[str, Any]) -> str:
        return f"{100 * entry['with_ties']:.1f} [{100 * entry['low']:.1f}, {100 * entry['high']:.1f}]"

    lines = ["| agreement, % | with the majority | with single people | Cohen's kappa | takes the longer |",
             "|---" * 5 + "|"]
    gains = []
    for name, found in figures["tests"].items():
        title, people = titles[name], found["people"]
        others = people["with_others_majority"]
        lines.append(f"| {title}: a person | {ends(others) + ' (of the others)' if others else '-'} | "
                     f"{ends(people['with_one'])} | {people['fleiss_kappa']:.2f} (Fleiss') | - |")
        mine = found["reward_model"]
        spread = summarise([run["with_majority"]["with_ties"] for run in mine])
        first = mine[0]
        rows = {f"reward model, seed 0 (all: {show(spread)})": first, **found["judges"]}
        for judge, entry in rows.items():
            kappa = entry["with_majority"]["kappa"]
            cells = [ends(entry["with_majority"]), ends(entry["with_one"]), "-" if kappa is None else f"{kappa:.2f}",
                     f"{100 * entry['length']['longer']:.0f} %"]
            lines.append(f"| {title}: {judge} | {' | '.join(cells)} |")
        gains += [f"{title}, {judge} {show_gain(entry)}" for judge, entry in found["reward_model_less"].items()]
    mixtures = "; ".join(f"{name} {show(entry)}" for name, entry in figures["validation"]["mixtures"].items())
    recipes = "; ".join(f"{name} {show(entry)}" for name, entry in figures["validation"]["recipes"].items())
    calibration = ["| stated preference, held-out topics | calibration error | Brier |", "|---|---|---|"]
    calibration += [f"| {way} | {show(entry['error'], 1, 3)} | {show(entry['brier'], 1, 3)} |"
                    for way, entry in figures["calibration"].items() if way != "pairs"]
    return "\n\n".join([
        "Ten heads on frozen features of all-MiniLM-L6-v2 that read the first "
        f"{figures['longest']['response']} tokens of a response, trained on {chosen['mixture']} by the recipe "
        f"{chosen['recipe']}, against people and the language models recorded in the data; ties count half, intervals "
        f"draw prompts. {origin(results)}",
        "\n".join(lines),
        f"Reward model (mean of {len(results['seeds'])} seeds) less another judge, points: {'; '.join(gains)}. Chosen "
        f"on validation pairs of UltraFeedback, accuracy: {mixtures}. Recipes: {recipes}.",
        f"UKPConvArg1, against the annotators' vote shares on {figures['calibration']['pairs']:,} pairs:",
        "\n".join(calibration),
    ])


def format_judge_attacks() -> str:
    """What attacks do to the scores of reward models."""
    results = read_results("judge_attacks")
    figures = results["figures"]
    lines = ["| appended | attacks | score rises | control | shift, points of 5 | control | pairs turned | control |",
             "|---" * 8 + "|"]
    for family, entry in figures["families"].items():
        cells = [show(entry[title][name], scale, digits) for name, scale, digits in
                 (("raised", 100, 1), ("shift", 1, 2), ("pairs_turned", 100, 1)) for title in ("attack", "control")]
        lines.append(f"| {family} | {figures['attacks'][family]} | {' | '.join(cells)} |")
    text = (
        "Ten heads on the frozen features of all-MiniLM-L6-v2, trained on UKPConvArg1. Each attack is appended to the "
        f"rejected response of {figures['pairs']} held-out pairs, its control is as many characters of another "
        "argument. Percent of responses whose score rises, and of rightly judged pairs in which the rejected response "
        f"then wins. {origin(results)}"
    )
    return text + "\n\n" + "\n".join(lines)
