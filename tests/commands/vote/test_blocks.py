"""A vote taken in small blocks, its large arrays on disk, is byte for byte the vote taken in memory."""

import numpy as np
import pyarrow.parquet
import pytest

from rmkit.commands.vote import vote
from rmkit.core.stage import read_record
from rmkit.data import memmap as pages
from rmkit.data import parquet as tables
from rmkit.ensembles import heads, voting
from rmkit.preferences import noise as rate


@pytest.mark.parametrize("folds", [0, 3])
def test_a_vote_in_blocks_is_the_vote_at_once(configure, tmp_path, monkeypatch, folds):
    def read(folder):
        splits = [pyarrow.parquet.read_table(folder / f"{split}.parquet") for split in ("train", "validation")]
        record = read_record(folder)
        return [*splits, record["noise_rate"], record["flip_auroc"]]

    settings = {"members": 4, "folds": folds, "heads": {"batch_size": 8, "epochs": 2}}
    whole = read(vote(configure(**settings)))
    for module, name, value in ((tables, "BLOCK", 5), (pages, "MIN_BYTES", 1),
                                (rate, "BLOCK", 4), (voting, "BLOCK", 6)):
        monkeypatch.setattr(module, name, value)
    mapped = []
    monkeypatch.setattr(heads, "memmap_zeros", lambda *given: mapped.append(pages.memmap_zeros(*given)) or mapped[-1])
    in_blocks = read(vote(configure(**settings, output_dir=str(tmp_path / "blocks"))))
    assert mapped and all(isinstance(array, np.memmap) for array in mapped)
    assert all(one == other for one, other in zip(whole, in_blocks, strict=True))
    if folds:
        assert whole[2] is not None
