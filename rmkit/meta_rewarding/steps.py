"""Steps that only the loop has: the prompts of each iteration, and the drift metrics of its judgments."""

import dataclasses
from pathlib import Path

import numpy as np

from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.resumable import write_jsonl
from rmkit.data.samples import read_prompts
from rmkit.judges.base import Scale
from rmkit.judges.judged_samples import read_judged
from rmkit.meta_rewarding.drift import DriftMetrics, drift_metrics
from rmkit.meta_rewarding.meta_judging import read_meta_judgments, stack_verdicts


def split_prompts(data: str, output_dir: Path, *, per_iteration: int, iterations: int, seed: int) -> None:
    """Write `iteration-N.jsonl`: prompts in random order, cut into iterations; all are used before one is repeated."""
    settings = {"per_iteration": per_iteration, "iterations": iterations, "seed": seed}
    with open_stage(output_dir, "prompts", settings, {"prompts": data}) as stage:
        if stage.done:
            return
        with RejectedRows(output_dir / "quarantine.jsonl") as quarantine:
            rows = read_prompts(data, "train", quarantine)
        generator = np.random.default_rng(derive_seed(seed, "prompts"))
        order = np.concatenate([generator.permutation(len(rows))
                                for _ in range(-(-per_iteration * iterations // len(rows)))])
        for iteration in range(iterations):
            indices = order[iteration * per_iteration:(iteration + 1) * per_iteration].tolist()
            unique = dict.fromkeys(indices)  # where one random order ends and the next begins, prompts can repeat
            write_jsonl(output_dir / f"iteration-{iteration + 1}.jsonl", (rows[index] for index in unique))
        stage.record.update(rows=len(rows), quarantined=quarantine.reasons)


def measure_drift(judgments: Path, meta_judgments: str | None, output_dir: Path, *, scale: Scale) -> DriftMetrics:
    """The drift metrics of a folder of `rmkit judge` and of one of meta-judgments."""
    inputs: dict[str, str | Path] = {"judgments": judgments}
    if meta_judgments is not None:
        inputs["meta_judgments"] = meta_judgments
    with open_stage(output_dir, "drift", {"scale": list(scale)}, inputs) as stage:
        if not stage.done:
            judged = read_judged(judgments)
            rows = read_meta_judgments(meta_judgments) if meta_judgments else []
            metrics = drift_metrics(judged.scores, judged.contents, scale=scale,
                                    meta_judgments=stack_verdicts(rows) if rows else None)
            stage.record["metrics"] = dataclasses.asdict(metrics)
    return DriftMetrics(**stage.record["metrics"])
