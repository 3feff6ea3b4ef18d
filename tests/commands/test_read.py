import gzip
import json
import os

import pytest

from rmkit.cli import main
from rmkit.commands.read import LabelNoise, ReadConfig, read
from rmkit.core.checks import InputError
from rmkit.core.stage import read_record
from rmkit.data.sources import read_rows


def write_pairs(file, count=200, **columns):
    """Pairs, two to a prompt, in a compressed file."""
    rows = [{"prompt": f"Question {number // 2}", "chosen": f"Yes {number}", "rejected": "No", **columns}
            for number in range(count)]
    file.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    return str(file)


def load(folder, split):
    return [row.content for row in read_rows(str(folder / f"{split}.parquet"))]


def prompts(pairs):
    return {pair["prompt"][0]["content"] for pair in pairs}


@pytest.fixture
def data(tmp_path):
    return write_pairs(tmp_path / "pairs.jsonl.gz")


def test_the_splits_share_no_prompt_and_lose_no_pair(tmp_path, data, capsys):
    folder = read(ReadConfig(data=data, output_dir=str(tmp_path / "out")))
    splits = {name: load(folder, name) for name in ("train", "validation", "test")}
    assert sorted(pair["id"] for pairs in splits.values() for pair in pairs) == sorted(
        f"pairs:{line}" for line in range(1, 201))
    assert sum(len(prompts(pairs)) for pairs in splits.values()) == 100
    assert all(len(pairs) == 2 * len(prompts(pairs)) for pairs in splits.values())
    assert "is_flipped" not in splits["train"][0]
    record = read_record(folder)
    assert record["rows_in"] == 200 == sum(record["rows_out"].values())
    assert record["rows_out"] == {name: len(pairs) for name, pairs in splits.items()}
    assert capsys.readouterr().out.startswith("rows in 200 = rows out 200 + quarantined 0\n  train ")


def test_the_same_configuration_is_not_read_again(tmp_path, data, capsys):
    config = ReadConfig(data=data, output_dir=str(tmp_path / "out"))
    folder = read(config)
    first = capsys.readouterr().out
    times = {name: (folder / name).stat().st_mtime_ns for name in os.listdir(folder)}
    assert read(config) == folder
    assert capsys.readouterr().out == first
    assert {name: (folder / name).stat().st_mtime_ns for name in os.listdir(folder)} == times
    read(ReadConfig(data=data, output_dir=str(tmp_path / "out"), seed=1))
    assert (folder / "train.parquet").stat().st_mtime_ns != times["train.parquet"]


def test_validation_and_test_data_of_their_own(tmp_path, data):
    other = write_pairs(tmp_path / "other.jsonl.gz", 6, gold_gap=1.5)
    more = write_pairs(tmp_path / "more.jsonl.gz", 4)
    folder = read(ReadConfig(data=data, output_dir=str(tmp_path / "out"), validation=other, test=more))
    assert read_record(folder)["rows_out"] == {"train": 200, "validation": 6, "test": 4}
    assert load(folder, "validation")[0]["gold_gap"] == 1.5
    assert "gold_gap" not in load(folder, "train")[0]
    assert [pair["id"] for pair in load(folder, "test")] == [f"more:{line}" for line in range(1, 5)]


def test_noise_is_planted_in_training_pairs_only(tmp_path):
    data = write_pairs(tmp_path / "pairs.jsonl.gz", gold_gap=2.0)
    plain = read(ReadConfig(data=data, output_dir=str(tmp_path / "plain")))
    noise = LabelNoise(kind="uniform", rate=0.3)
    noisy = read(ReadConfig(data=data, output_dir=str(tmp_path / "noisy"), label_noise=noise))
    for split in ("validation", "test"):
        assert load(plain, split) == load(noisy, split)
    train = load(noisy, "train")
    flipped = [pair for pair in train if pair["is_flipped"]]
    assert len(flipped) == round(0.3 * len(train)) == read_record(noisy)["n_flipped"]
    for before, after in zip(load(plain, "train"), train, strict=True):
        assert before["id"] == after["id"]
        assert after["gold_gap"] == (-2.0 if after["is_flipped"] else 2.0)
        assert after["chosen"] == before["rejected" if after["is_flipped"] else "chosen"]


def test_lengths_by_the_models_tokenizer(tmp_path, tiny_base, capsys):
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{number} " * 60, "chosen": "blue", "rejected": "red " * (60 if number == 3 else 1)}
            for number in range(40)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    lengths = {"model_name_or_path": str(tiny_base), "max_length": 40}
    folder = read(ReadConfig(data=str(file), output_dir=str(tmp_path / "out"), **lengths))
    record = read_record(folder)
    assert record["quarantined"] == {"over-long response": 1}
    assert record["prompts_truncated"] == 39
    assert f"over-long response: 1 (first at {file}:4)" in capsys.readouterr().out


def test_a_split_without_pairs_is_refused(tmp_path):
    data = write_pairs(tmp_path / "pairs.jsonl.gz", 2)
    with pytest.raises(InputError, match="split (train|validation|test): expected at least one pair"):
        read(ReadConfig(data=data, output_dir=str(tmp_path / "out")))
    folder = read(ReadConfig(data=data, output_dir=str(tmp_path / "out"), validation_fraction=0, test_fraction=0))
    assert sorted(os.listdir(folder)) == ["quarantine.jsonl", "stage.json", "train.parquet"]


@pytest.mark.parametrize("options, match", [
    ({"validation_fraction": 1.5}, "validation_fraction"),
    ({"max_length": 100}, "both or neither"),
    ({"max_length": 0, "model_name_or_path": "x"}, "max_length"),
    ({"columns": {"better": "chosen"}}, "columns: better"),
    ({"label_noise": {"kind": "uniform", "rate": 30}}, "label_noise.rate"),
])
def test_settings_are_checked_before_anything_is_read(options, match):
    with pytest.raises(InputError, match=match):
        ReadConfig(data="pairs.jsonl", output_dir="out", **options)


@pytest.mark.parametrize("words, match", [
    (["--data", "DIR/no.jsonl"], "No such file"),
    (["--data", "DIR/bad.jsonl"], "rows in 1 = rows out 0 + quarantined 1; bad JSON: 1 (first at DIR/bad.jsonl:1)"),
    (["--data", "DIR/bad.parquet"], "a Parquet file"),
    (["--data", "DIR/pairs.jsonl.gz", "--columns.chosen", "winner"], "columns: chosen: winner"),
    (["--data", "DIR/pairs.jsonl.gz", "--columns.best", "chosen"], "columns: best"),
    (["--data", "DIR/pairs.jsonl.gz", "--test", "DIR/bad.jsonl"], "data DIR/bad.jsonl"),
    (["--data", "DIR/pairs.jsonl.gz", "--label_noise.kind", "small_gap", "--label_noise.rate", "0.1"], "gold_gap"),
    (["--data", "DIR/pairs.jsonl.gz", "--label_noise.kind", "odd", "--label_noise.rate", "0.1"], "label_noise.kind"),
    (["--data", "DIR/pairs.jsonl.gz", "--model_name_or_path", "DIR", "--max_length", "9"], "tokenizer"),
])
def test_refused_input_is_one_line_and_exit_code_2(tmp_path, data, capsys, words, match):
    (tmp_path / "bad.jsonl").write_text("oops\n")
    (tmp_path / "bad.parquet").write_text("oops\n")
    words = [word.replace("DIR", str(tmp_path)) for word in words]
    assert main(["read", *words, "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rmkit: error: ") and error.count("\n") == 1
    assert match.replace("DIR", str(tmp_path)) in error
    assert read_record(tmp_path / "out") is None


def test_a_full_disk_is_one_line(tmp_path, data, capsys, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter", fail)
    assert main(["read", "--data", data, "--output_dir", str(tmp_path / "out")]) == 2
    assert "No space left on device" in capsys.readouterr().err
