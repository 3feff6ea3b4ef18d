"""MetaRM on two processes, at every ZeRO stage: the parameters of plain torch on one."""

import json
import math

import pytest
import safetensors.torch

from rmkit.training.zero import deepspeed_environment, default_config
from tests.training import ranks_worker
from tests.training.ranks_worker import BATCH, META

pytestmark = pytest.mark.slow
TOLERANCE = 1e-5


def load(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def train(tiny_base, pairs_file, samples_file, tmp_path_factory):
    """train(config, samples=..., **settings) -> the weights after training in this process."""

    def run(config, samples=samples_file, **settings):
        folder = tmp_path_factory.mktemp("one process")
        with deepspeed_environment():
            ranks_worker.train(str(tiny_base), pairs_file, str(folder), config, micro=BATCH, save=True, samples=samples,
                               **{**META, **settings})
        return load(folder)

    return run


@pytest.fixture(scope="module")
def reference(train):
    """Plain torch: one process, whole batches."""
    return train(None)


def differ(run, other):
    """The largest difference of a parameter's entries, in shares of the parameter's largest."""
    return max(((run[name] - other[name]).abs().max() / other[name].abs().max()).item() for name in other)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_processes(perturbed_ranks, reference, stage):
    assert differ(load(perturbed_ranks / str(stage)), reference) < TOLERANCE


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_one_process(train, reference, stage):
    assert differ(train(default_config(stage)), reference) < TOLERANCE


def test_the_perturbation_changes_more_than_the_tolerance(train, reference):
    """Without it, or with half of it, the parameters differ by more."""
    plain = {"meta_learning_rate": None, "meta_batch_size": None}
    assert differ(train(None, samples=None, **plain), reference) > 1000 * TOLERANCE
    assert differ(train(None, meta_learning_rate=META["meta_learning_rate"] / 2), reference) > 100 * TOLERANCE


def test_shards_that_are_not_gathered_anew_are_caught(perturbed_ranks, reference):
    """What stage 3 keeps whole stays at theta where the perturbation writes the shards alone."""
    assert differ(load(perturbed_ranks / "mutant"), reference) > 100 * TOLERANCE


def read_perturbations(folder, name):
    """Losses, and what each rank noted [rank][perturbation]."""
    seen = json.loads((folder / "perturbations.json").read_text())[name]
    return seen["losses"], seen["ranks"]


@pytest.mark.parametrize("stage", [2, 3])
def test_in_bfloat16_the_parameters_move_along_the_gradient_and_back_bit_for_bit(perturbed_ranks, stage):
    """By as much as in float32, on the whole, though a step is mostly less than a unit in the last place."""
    losses, ranks = read_perturbations(perturbed_ranks, str(stage))
    assert len(losses) == 2 and all(map(math.isfinite, losses))
    for notes in ranks:
        assert len(notes) == 2 and notes[0]["before"] != notes[1]["before"]
        for note in notes:
            assert note["types"] == ["torch.bfloat16"]
            assert note["above"] != note["before"] == note["after"]
    along, wanted = (sum(note[name] for notes in ranks for note in notes) for name in ("along", "wanted"))
    assert along == pytest.approx(wanted, rel=0.1)


def test_in_bfloat16_ranks_that_hold_all_parameters_round_alike(perturbed_ranks):
    one, other = read_perturbations(perturbed_ranks, "2")[1]
    assert one == other
    apart, from_it = read_perturbations(perturbed_ranks, "apart")[1]  # ranks with different random numbers
    assert apart[0]["before"] == from_it[0]["before"] and apart[0]["above"] != from_it[0]["above"]
