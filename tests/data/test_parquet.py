"""Tables: written and read a block at a time, whole or not at all."""

import numpy as np
import pyarrow.parquet
import pytest
from datasets import Dataset

from rmkit.data import parquet as tables
from rmkit.data.parquet import load_split, prompt_ids, read_column, stream_rows, write_table

ODD = ("", "b", "a", "é", "\U0001f600", "￿", "a\x00", "a\udc80", "'quote'", "B", "a ", "\n")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 7)


@pytest.fixture
def rows():
    return Dataset.from_list([
        {"id": f"p{number}", "prompt": [{"role": "user", "content": str(number % 5)}], "old": number, "more": [1.5]}
        for number in range(24)
    ])


def test_added_columns_come_last_and_in_the_place_of_those_of_their_name(rows, tmp_path):
    strength, rewards = np.linspace(-1, 1, 24), np.arange(72.0).reshape(3, 24)
    added = {"rewards": rewards.T, "old": strength, "name": np.array(["keep", "flip+margin"] * 12)}
    write_table(rows, tmp_path / "x.parquet", added)
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["id", "prompt", "more", "rewards", "old", "name"]
    np.testing.assert_array_equal(table["old"], strength)
    np.testing.assert_array_equal(np.array(table["rewards"].to_pylist()), rewards.T)
    assert table["name"].to_pylist() == added["name"].tolist()
    again = Dataset.from_parquet(str(tmp_path / "x.parquet"))
    assert again.remove_columns(["rewards", "old", "name"]).to_list() == rows.remove_columns(["old"]).to_list()
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_a_selection_and_no_rows_are_written_too(rows, tmp_path):
    write_table(rows.select([20, 3, 3, 11]), tmp_path / "some.parquet")
    assert Dataset.from_parquet(str(tmp_path / "some.parquet"))["id"][:] == ["p20", "p3", "p3", "p11"]
    write_table(rows.select([]), tmp_path / "none.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "none.parquet").schema.names == rows.column_names


def test_a_table_that_was_not_finished_has_not_its_name(rows, tmp_path):
    with pytest.raises(ValueError):
        write_table(rows, tmp_path / "x.parquet", {"short": np.zeros(10)})
    assert not (tmp_path / "x.parquet").exists()


def test_rows_and_numbers_come_in_their_order(rows):
    assert list(stream_rows(rows, ["id", "old"])) == [{"id": f"p{number}", "old": number} for number in range(24)]
    numbers = read_column(rows, "old", np.int32)
    assert numbers.dtype == np.int32
    np.testing.assert_array_equal(numbers, np.arange(24))


def test_prompts_are_numbered_in_the_order_of_their_text(tmp_path):
    generator = np.random.default_rng(0)
    prompts = [[{"role": "user", "content": str(generator.choice(ODD[:7] + ODD[8:]))}] for _ in range(60)]
    write_table(Dataset.from_dict({"id": [str(number) for number in range(60)], "prompt": prompts}),
                tmp_path / "train.parquet")
    rows = load_split(tmp_path, "train", ["prompt"])
    expected = np.unique([str(prompt) for prompt in prompts], return_inverse=True)[1]
    np.testing.assert_array_equal(prompt_ids(rows), expected)
