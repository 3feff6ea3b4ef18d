"""Models under ZeRO-3 on two ranks: loaded in parts, saved as any other."""

import json

import numpy as np
import pytest
import safetensors.torch

from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.training.zero import deepspeed_environment
from tests.training import ranks_worker
from tests.training.ranks_worker import BATCH

MIB = 2**20


@pytest.fixture(scope="module")
def size(wide_base):
    """Bytes of the whole model."""
    model = load_reward_model(wide_base, load_tokenizer(wide_base), seed=0)
    return sum(parameter.nbytes for parameter in model.parameters())


@pytest.mark.parametrize("rank", [0, 1])
def test_no_rank_holds_the_whole_model(two_ranks, wide_base, size, rank):
    """Neither while loading nor afterwards; the same model loaded without ZeRO-3 takes all of it."""
    sharded, whole = two_ranks["loaded"][rank]
    file = max(path.stat().st_size for path in wide_base.glob("*.safetensors"))
    assert 70 * MIB < size and file < 12 * MIB
    assert sharded["held"] < 0.51 * size and sharded["peak"] < size / 2 + file
    assert whole["held"] == size and whole["peak"] > 0.9 * size


def test_parts_are_those_of_the_whole_model(two_ranks):
    """The body, stored as bfloat16, the head that was drawn, and the row of the token that the model did not know."""
    (sharded, whole), (other, _) = two_ranks["loaded"]
    assert sharded["weights"] == other["weights"] == whole["weights"] and len(whole["weights"]) > 50


def test_folder_is_that_of_any_other_stage(two_ranks, tiny_base, pairs_file, tmp_path):
    with deepspeed_environment():
        ranks_worker.train(str(tiny_base), pairs_file, str(tmp_path), None, micro=BATCH, save=True)
    folders = [two_ranks["folder"], tmp_path]
    files = [{path.name for path in folder.iterdir()} - {"results.json"} for folder in folders]
    assert files[0] == files[1] and "model.safetensors" in files[0]
    weights = [safetensors.torch.load_file(folder / "model.safetensors") for folder in folders]
    shapes = [{name: (value.dtype, value.shape) for name, value in found.items()} for found in weights]
    assert shapes[0] == shapes[1]
    for name, value in weights[1].items():
        np.testing.assert_allclose(weights[0][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    assert configs[0] == configs[1]


def test_every_group_has_the_timeout(two_ranks):
    """DeepSpeed's own groups too, which would wait half an hour."""
    assert len(two_ranks["timeouts"]) > 1 and set(two_ranks["timeouts"]) == {ranks_worker.TIMEOUT}
