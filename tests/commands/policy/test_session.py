"""The session of a training command: when a finished training is kept, and when another one starts."""

from types import SimpleNamespace

import pytest

from rmkit.commands.sft import SftConfig
from rmkit.core.stage import read_record
from rmkit.training.session import run_training_session


@pytest.fixture
def train(tmp_path):
    """train(ranks, **settings) -> whether there was anything left to train, by the first of so many ranks."""

    def enter(ranks, **settings):
        places = {"data": "d", "model_name_or_path": "m", "output_dir": str(tmp_path / "out")}
        config = SftConfig(**places, deepspeed=None, **settings)
        filled = []
        run_training_session(
            "sft", config, {}, lambda: SimpleNamespace(world_size=ranks), lambda stage, _: filled.append(stage)
        )
        return bool(filled)

    return enter


def test_another_number_of_ranks_trains_another_policy(train, tmp_path):
    assert train(1) and not train(1)
    assert "world_size" not in read_record(tmp_path / "out")["config"]  # policies made before stay what they are
    assert train(2) and not train(2)
    assert train(4) and train(1)


def test_how_ranks_are_started_is_no_matter(train, monkeypatch):
    monkeypatch.setattr("rmkit.training.session.under_launcher", lambda: True)
    assert train(2, num_processes=2)
    assert not train(2, launcher="torchrun --nproc_per_node 2") and not train(2, ddp_timeout=60)
    assert train(2, learning_rate=1.0)
