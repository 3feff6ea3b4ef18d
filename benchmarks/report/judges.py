"""Tables of how good judges and ratings are."""

from collections.abc import Mapping
from typing import Any

from benchmarks.label_repair.trial import show
from benchmarks.report.tables import origin, read_results, show_gain
from benchmarks.shared.results import summarise


def format_ratings() -> str:
    """Ratings: speed, weighted battles against unweighted, planted biases."""
    results = read_results("ratings")
    figures = results["figures"]
    speed = figures["speed"]
    count = len(results["seeds"])
    schedules = list(next(iter(figures["order"].values())))
    order = [f"| a judge that | rated | {' | '.join(schedules)} |", "|---" * (len(schedules) + 2) + "|"]
    order += [f"| {judge} | {way} | {' | '.join(show(found[schedule][way], 1, 3) for schedule in schedules)} |"
              for judge, found in figures["order"].items() for way in found[schedules[0]]]
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
        f"Simulated judges below: the first wins 70 %, by a lean of as many logits in every battle or because 40 % are "
        f"not read; rank correlation with the truth, means over {count} seeds ± standard deviation. {origin(results)}",
        "\n".join(order),
        f"Planted biases, 1,000 pairs in both orders: {'; '.join(biases)}.",
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
        spreads = {recipe: summarise([run["with_majority"]["with_ties"] for run in runs])
                   for recipe, runs in found["reward_models"].items()}
        rows = {f"reward model, {recipe}, seed 0 (all: {show(spreads[recipe])})": runs[0]
                for recipe, runs in found["reward_models"].items()} | found["judges"]
        for judge, entry in rows.items():
            kappa = entry["with_majority"]["kappa"]
            cells = [ends(entry["with_majority"]), ends(entry["with_one"]), "-" if kappa is None else f"{kappa:.2f}",
                     f"{100 * entry['length']['longer']:.0f} %"]
            lines.append(f"| {title}: {judge} | {' | '.join(cells)} |")
        gains += [f"{title}, {judge} {show_gain(entry)}" for judge, entry in found["first_less"].items()]
    mixtures = "; ".join(f"{name} {show(entry)}" for name, entry in figures["validation"]["mixtures"].items())
    recipes = "; ".join(f"{name} {show(entry)}" for name, entry in figures["validation"]["recipes"].items())
    calibration = ["| stated preference, held-out topics | calibration error | Brier |", "|---|---|---|"]
    calibration += [f"| {way} | {show(entry['error'], 1, 3)} | {show(entry['brier'], 1, 3)} |"
                    for way, entry in figures["calibration"].items() if way != "pairs"]
    return "\n\n".join([
        "Ten heads on frozen features of all-MiniLM-L6-v2 that read the first "
        f"{figures['longest']['response']} tokens of a response, trained on {chosen['mixture']}, by the robust recipe "
        f"that is best on validation pairs ({chosen['recipe']}) and by plain BT, against people and the language "
        f"models recorded in the data; ties count half, intervals draw prompts. {origin(results)}",
        "\n".join(lines),
        f"Robust reward model (mean of {len(results['seeds'])} seeds) less another judge, points: {'; '.join(gains)}. "
        f"Accuracy on validation pairs of UltraFeedback: {mixtures}. Recipes: {recipes}.",
        f"UKPConvArg1, against the annotators' vote shares on {figures['calibration']['pairs']:,} pairs:",
        "\n".join(calibration),
    ])


def format_language_judges() -> str:
    """A small language model as a judge, and how far attacks move its score."""
    results = read_results("language_judges")
    figures = results["figures"]

    def share(entry: Mapping[str, Any] | None, name: str) -> str:
        return "-" if entry is None or entry[name] is None else f"{100 * entry[name]:.0f} %"

    def ends(entry: Mapping[str, Any], name: str) -> str:
        bounds = "" if entry["low"] is None else f" [{100 * entry['low']:.0f}, {100 * entry['high']:.0f}]"
        return "-" if entry[name] is None else f"{100 * entry[name]:.1f}{bounds}"

    lines = ["| answers, question, read as | unparsed | agreement, % | without ties | ties | at the top | entropy | "
             "shown first, % | same in both orders | takes the longer, % (people) | tokens read, written | seconds |",
             "|---" * 12 + "|"]
    repeats = []
    for title, questions in figures["rounds"].items():
        for question, ways in questions.items():
            for way, found in ways.items():
                asked, cost = found["answers"]["asked"], found["cost"]
                cells = [f"{title}: {question}, {way}",
                         f"{found['answers']['unparsed']} of {asked}"]
                spent = [f"{cost['prompt_tokens'] / asked:.0f}, {cost['answer_tokens'] / asked:.0f}",
                         f"{cost['seconds'] / asked:.2f}"]
                used = (found["scores"] or {}).get("saturation")
                cells += [
                    ends(found["agreement"], "with_ties"), share(found["agreement"], "without_ties"),
                    "-" if found["tie_rate"] is None else f"{100 * found['tie_rate']:.0f} %",
                    share(used, "top"), "-" if used is None else f"{abs(used['entropy']):.2f}",
                    "-" if found["position"] is None else ends(found["position"], "first"),
                    share(found["position"], "consistent"),
                    f"{ends(found['length'], 'longer')} ({share(found['length'], 'labels_longer')})",
                ]
                lines.append(f"| {' | '.join([*cells, *spent])} |")
                alike = (found["scores"] or found)["consistency"]
                if alike is not None and alike["equal"] is not None:
                    repeats.append(f"{question} {100 * alike['equal']:.0f} %")
    attacks = figures["attacks"]
    moves = ["| appended to a response | attacks | moves the score | raises it | control | shift, points of 5 | "
             "control | far | another digit | control |", "|---" * 10 + "|"]
    for family, entry in {**attacks["families"], "all": attacks["all"]}.items():
        count = attacks["attacks"].get(family, sum(attacks["attacks"].values()))
        both = [entry[kind] for kind in ("attack", "control")]
        cells = [share(both[0], "moved"), *(share(each, "raised") for each in both),
                 *(f"{each['shift']:+.2f}" for each in both), share(both[0], "far"),
                 *(share(each, "rewritten") for each in both)]
        moves.append(f"| {family} | {count} | {' | '.join(cells)} |")
    every = attacks["all"]["attack"]
    raised, shift = (tuple(every[f"{name}_interval"]) for name in ("raised", "shift"))
    return "\n\n".join([
        f"{figures['model']} as float32 on {figures['pairs']} pairs of PandaLM and Tulu with a clear majority, whose "
        f"prompt and responses have at most {figures['longest']} tokens each; temperature 0. In its own words the "
        f"model has {figures['own_words']} tokens; in a form it fills a blank: `Score: _/5`, `Score: _`, `Winner: "
        "Response _.`. Ties count half, intervals draw prompts; entropy of the scores in nats; processor seconds, "
        f"where a form's answers share one reading of the question. {origin(results)}",
        "\n".join(lines),
        f"Two answers drawn at temperature 0.8 to one question are the same: {', '.join(repeats)}.",
        f"Attacks: expected score by the rubric of {attacks['responses']} rejected responses, with and without the "
        f"text behind it; controls are as many characters of other responses. Moved: by more than rounding does, "
        f"{attacks['noise']:.0e} points at most when the same is asked in other batches; far: by more than 95 % of the "
        f"controls, {attacks['usual']:.2f} points. Raised by all attacks: {100 * every['raised']:.0f} % "
        f"[{100 * raised[0]:.0f}, {100 * raised[1]:.0f}], shift {every['shift']:+.2f} [{shift[0]:+.2f}, "
        f"{shift[1]:+.2f}]; of the {attacks['naming_count']} that contain a 5, the highest score, "
        f"{describe_shift(attacks['naming']['True'])}, of the others {describe_shift(attacks['naming']['False'])}; a "
        f"harmless sentence with a 5 in it {describe_shift(attacks['all']['number'])}.",
        "\n".join(moves),
    ])


def describe_shift(entry: Mapping[str, Any]) -> str:
    """How many of the scores rise, and by how much scores change."""
    return f"{100 * entry['raised']:.0f} % ({entry['shift']:+.2f})"


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
