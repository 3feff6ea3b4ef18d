"""Stage tables: the Parquet files that stages hand to each other."""

from pathlib import Path

from datasets import Dataset

from rmkit.core.checks import Seen, refuse


def load_split(folder: str | Path, split: str) -> Dataset:
    """The rows of `folder`/`split`.parquet, memory-mapped; refused when the folder has no such split."""
    path = Path(folder) / f"{split}.parquet"
    if not path.is_file():
        found = ", ".join(sorted(file.stem for file in Path(folder).glob("*.parquet"))) or "no Parquet file"
        refuse(f"data {folder}", f"a stage's folder with {split}.parquet", Seen(found),
               "Run `rmkit read` on the data first and name its output_dir.")
    return Dataset.from_parquet(str(path))


def write_table(rows: Dataset, path: Path) -> None:
    """Write rows as Parquet; the file has its name only once it is whole."""
    draft = path.with_name(path.name + ".part")
    rows.to_parquet(str(draft))
    draft.replace(path)
