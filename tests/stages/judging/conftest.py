import pytest
from datasets import Dataset
from judge_runs import Scripted


@pytest.fixture
def appointed(monkeypatch):
    """appointed(script) makes the language model of every run answer by it; the generator."""

    def make(script):
        generator = Scripted(script)
        monkeypatch.setattr("rmkit.stages.judging.appointing.find_generator", lambda model, trust: generator)
        return generator

    return make


@pytest.fixture
def write_pairs(tmp_path):
    """write_pairs(rows of (prompt, chosen, rejected)) -> the folder."""

    def write(rows):
        folder = tmp_path / "pairs"
        folder.mkdir()
        Dataset.from_list([{
            "id": f"p{number}", "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        } for number, (prompt, chosen, rejected) in enumerate(rows)]).to_parquet(folder / "test.parquet")
        return folder

    return write
