"""`rmkit run` on real text, from file to report: HH-RLHF, fine-tuned voters, two DeepSpeed processes.

    python -m benchmarks.label_repair.hh --data hh_rlhf_test.jsonl.gz [--work runs/hh] [--seed 0]

Runs recipes/hh.yaml with three members on a tiny causal model whose weights are random (tokenizer and model are built
here, nothing is downloaded), so accuracy is near chance; what is shown is that the run completes, and what it took. A
run that was stopped goes on from where it was.
"""

import argparse
import gzip
import json
from pathlib import Path

from benchmarks.shared.results import write_results
from rmkit.commands.run import RunConfig, run
from rmkit.core.config import load_config
from rmkit.core.stage import read_record
from rmkit.models.tiny import build_language_model, build_tokenizer

RECIPE = Path(__file__).parents[2] / "recipes" / "hh.yaml"
TRAINING = {
    "num_processes": 2, "learning_rate": "1e-3", "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
}


def build_base(data: Path, folder: Path) -> None:
    """A tokenizer made from the data's first texts and a tiny Llama with random weights."""
    if (folder / "config.json").exists():
        return
    with gzip.open(data, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(2000), strict=False)]
    tokenizer = build_tokenizer((row[side] for row in rows for side in ("prompt", "chosen", "rejected")), 4096)
    tokenizer.save_pretrained(folder)
    build_language_model(tokenizer, hidden=64, layers=2).save_pretrained(folder)


def main() -> None:
    """Run, and write the run's figures to benchmarks/results/hh.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="hh_rlhf_test.jsonl.gz")
    parser.add_argument("--work", type=Path, default=Path("runs/hh"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    base = options.work / "base"
    build_base(options.data, base)
    settings = {
        "data": options.data, "model_name_or_path": base, "output_dir": options.work / "run", "seed": options.seed,
        "max_length": 512, "vote.members": 3,
        **{f"{section}.{key}": value for section in ("vote.train", "train") for key, value in TRAINING.items()},
    }
    words = [str(word) for key, value in settings.items() for word in (f"--{key}", value)]
    report = run(load_config(RunConfig, RECIPE, words))
    names = ("pairs", "votes", "repaired", "plain", "evaluation")
    records = {name: read_record(options.work / "run" / name) or {} for name in names}
    figures = {
        **{key: records["pairs"][key] for key in ("rows_in", "rows_out", "quarantined")},
        **{key: records["votes"][key] for key in ("members", "voting", "negative_share")},
        "actions": records["repaired"]["actions"],
        "processes": records["plain"]["world_size"],
        "metrics": records["evaluation"]["metrics"],
        "seconds": {name: record["seconds"] for name, record in records.items()},
        "report_bytes": (report / "report.html").stat().st_size,
    }
    print(write_results("hh", figures, seeds=[options.seed]))


if __name__ == "__main__":
    main()
