"""Label flips injected into a file of pairs on purpose; the column `is_flipped` says where."""

from array import array
from pathlib import Path

import pyarrow.parquet

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.parquet import BLOCK
from rmkit.data.reading import PairWriter
from rmkit.preferences.noise import NoiseKind, sample_label_flips


def inject_flips(path: Path, *, kind: NoiseKind, rate: float, seed: int) -> int:
    """Flip the labels of a fraction of the pairs in the file at `path`, in place; returns how many.

    A flipped pair has `chosen` and `rejected` swapped and its `gold_gap` negated; every pair gets `is_flipped`. Which
    pairs: `rmkit.preferences.sample_label_flips`. Raises `InputError` for kind "small_gap" without a gold gap.
    """
    with pyarrow.parquet.ParquetFile(path) as table:
        names = table.schema_arrow.names
        if kind == "small_gap" and "gold_gap" not in names:
            raise_input_error(
                "label_noise.kind small_gap", "pairs with a gold_gap", Verbatim("none"), "Take uniform or longer."
            )
        gaps, length_difference = array("d"), array("d")
        for batch in table.iter_batches(BLOCK):
            for pair in batch.to_pylist():
                gaps.append(pair.get("gold_gap", 0.0))
                length_difference.append(count_characters(pair["chosen"]) - count_characters(pair["rejected"]))
        flips = iter(sample_label_flips(gaps, kind=kind, rate=rate, seed=seed, length_difference=length_difference))
        flipped = 0
        with PairWriter(path, [*names, "is_flipped"]) as writer:
            for batch in table.iter_batches(BLOCK):
                for pair in batch.to_pylist():
                    pair["is_flipped"] = bool(next(flips))
                    if pair["is_flipped"]:
                        flipped += 1
                        pair["chosen"], pair["rejected"] = pair["rejected"], pair["chosen"]
                        if "gold_gap" in pair:
                            pair["gold_gap"] = -pair["gold_gap"]
                    writer.write(pair)
    return flipped


def count_characters(messages: list[dict[str, str]]) -> int:
    """Characters of a response."""
    return sum(len(message["content"]) for message in messages)
