"""Stage tables: the Parquet files that stages hand to each other."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from rmkit.core.checks import Seen, refuse

SIDES = ("prompt", "chosen", "rejected")


def find_split(data: str | Path, split: str) -> Path:
    """The Parquet file that holds `split`: `data` itself, or the one in the stage's folder `data`."""
    path = Path(data)
    file = path / f"{split}.parquet" if path.is_dir() else path
    if not file.is_file() or file.suffix != ".parquet":
        found = ", ".join(sorted(other.name for other in path.glob("*.parquet"))) or "no Parquet file"
        refuse(f"data {data}", f"a stage's folder with {split}.parquet, or a Parquet file of pairs", Seen(found),
               "Check the path; `rmkit read` makes one from other formats.")
    return file


def load_split(data: str | Path, split: str, columns: Sequence[str] = SIDES) -> Dataset:
    """The pairs of `split` in a stage's folder or a Parquet file, mapped from disk.

    Raises `InputError` when there are none, and when one of `columns` is missing.
    """
    file = find_split(data, split)
    pairs = Dataset.from_parquet(str(file))
    missing = [name for name in columns if name not in pairs.column_names]
    if missing:
        refuse(str(file), f"the columns {', '.join(columns)}", Seen(f"none named {', '.join(missing)}"),
               "Name the folder of the stage that writes them; `rmkit read` maps columns of other names.")
    if not len(pairs):
        refuse(str(file), "at least one pair", Seen("none"), "Check what was dropped on the way.")
    return pairs


def write_table(rows: Dataset, path: Path) -> None:
    """Write rows as Parquet; the file has its name only once it is whole."""
    draft = path.with_name(path.name + ".part")
    rows.to_parquet(str(draft))
    draft.replace(path)
