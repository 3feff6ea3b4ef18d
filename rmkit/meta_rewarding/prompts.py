"""The prompts of each iteration."""

from pathlib import Path

import numpy as np

from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.resumable import write_jsonl
from rmkit.data.samples import read_prompts


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
