"""Pairs with repaired labels, written as Parquet."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from rmkit.data.parquet import PAIR_SIDES, write_table
from rmkit.preferences import Repair


def write_repaired(pairs: Dataset, labels: Repair, directory: Path) -> int:
    """Write `train.parquet` and, where pairs were dropped, `dropped.parquet`; returns how many were dropped."""
    def relabel(row: dict[str, Any], index: int) -> dict[str, Any]:
        changes = {
            "target": float(labels.target[index]),
            "margin": float(labels.margin[index]),
            "action": str(labels.action[index]),
        }
        if labels.swapped[index]:
            changes |= {"chosen": row["rejected"], "rejected": row["chosen"]}
        return changes

    columns = [name for name in ("id", *PAIR_SIDES, "source") if name in pairs.column_names]
    repaired = pairs.select_columns(columns).map(
        relabel, with_indices=True, load_from_cache_file=False, desc="Repairing labels"
    )
    write_table(repaired.select(np.flatnonzero(labels.keep)), directory / "train.parquet")
    dropped = np.flatnonzero(~labels.keep)
    if len(dropped):
        write_table(repaired.select(dropped), directory / "dropped.parquet")
    return len(dropped)
