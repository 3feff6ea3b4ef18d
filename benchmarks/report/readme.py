"""Write the tables of README.md and benchmarks/README.md from benchmarks/results, so that nobody types a result.

    python -m benchmarks.report.readme [--check]

With --check nothing is written, and the exit code says whether both hold what the results say.
"""

import re
import sys
from functools import partial

from benchmarks.report.denoising import format_denoising
from benchmarks.report.headline import format_headlines
from benchmarks.report.judges import format_judge_attacks, format_judges, format_language_judges, format_ratings
from benchmarks.report.labels import format_contrastive, format_ensembles, format_gold, format_hh, format_ukp
from benchmarks.report.machine import format_kills, format_losses, format_memory, format_sizing, format_throughput
from benchmarks.report.meta_rewarding import format_meta_rewarding
from benchmarks.report.overoptimization import format_overoptimization
from benchmarks.report.policies import format_iterative_rlhf, format_metarm, format_metarm_cost, format_metarm_scratch
from benchmarks.report.questions import format_questions
from benchmarks.report.strength import format_preference_strength
from benchmarks.report.tables import ROOT

PAGES = ("README.md", "benchmarks/README.md")
BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
FORMATS = {
    "headlines": format_headlines, "questions": format_questions,
    "gold": format_gold, "ukp": format_ukp, "preference_strength": format_preference_strength,
    "denoising": format_denoising, "overoptimization": format_overoptimization, "hh": format_hh,
    "contrastive": format_contrastive, "ensembles": format_ensembles,
    "metarm": format_metarm, "metarm_scratch": format_metarm_scratch, "metarm_cost": format_metarm_cost,
    "iterative_rlhf": format_iterative_rlhf, "meta_rewarding": format_meta_rewarding,
    "losses": format_losses, "throughput": format_throughput, "sizing": format_sizing, "memory": format_memory,
    "kills": format_kills, "kills_loop": partial(format_kills, "kills_loop"),
    "ratings": format_ratings, "judges": format_judges, "judge_attacks": format_judge_attacks,
    "language_judges": format_language_judges,
}


def render(page: str) -> str:
    """A page with every block filled anew."""
    return BLOCK.sub(lambda match: f"{match[1]}{FORMATS[match[2]]()}\n{match[3]}", page)


def main() -> int:
    """Write or check both pages."""
    stale = []
    for page in PAGES:
        path = ROOT / page
        before = path.read_text(encoding="utf-8")
        after = render(before)
        if "--check" not in sys.argv:
            path.write_text(after, encoding="utf-8")
        elif before != after:
            stale.append(page)
    if stale:
        print(f"Other tables than benchmarks/results has: {', '.join(stale)}. Run python -m benchmarks.report.readme.")
    return len(stale)


if __name__ == "__main__":
    sys.exit(main())
