import pytest
from datasets import Dataset


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
