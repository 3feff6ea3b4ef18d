"""Write the tables of README.md and benchmarks/README.md from benchmarks/results, so that nobody types a result.

    python benchmarks/readme.py [--check]

With --check nothing is written, and the exit code says whether both hold what the results say.
"""

import re
import sys
from functools import partial

from tables import ROOT
from tables_denoising import format_denoising
from tables_headline import format_headlines
from tables_judges import format_judge_attacks, format_judges, format_language_judges, format_ratings
from tables_labels import format_contrastive, format_ensembles, format_gold, format_hh, format_ukp
from tables_machine import format_kills, format_losses, format_memory, format_sizing, format_throughput
from tables_meta_rewarding import format_meta_rewarding
from tables_overoptimization import format_overoptimization
from tables_policies import format_iterative_rlhf, format_metarm, format_metarm_cost, format_metarm_scratch
from tables_questions import format_questions
from tables_strength import format_preference_strength

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
        print(f"Other tables than benchmarks/results has: {', '.join(stale)}. Run python benchmarks/readme.py.")
    return len(stale)


if __name__ == "__main__":
    sys.exit(main())
