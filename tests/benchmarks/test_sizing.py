"""The formula for the memory of training: the ZeRO paper's table, DeepSpeed's estimates, and bytes held."""

import pytest
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs
from transformers import LlamaConfig

from benchmarks.report.tables import read_results
from benchmarks.systems import held_bytes, sizing
from benchmarks.systems.memory_formula import MODELS, SUB_GROUP, Size, Training, estimate_memory, measure_size

pytestmark = pytest.mark.slow
LIBRARY = "ignore:.*is_(gradient|activation)_checkpointing:FutureWarning"


@pytest.mark.parametrize(("processes", "expected"), [
    (1, (120, 120, 120)), (4, (52.5, 41.3, 30)), (16, (35.6, 21.6, 7.5)), (64, (31.4, 16.6, 1.88)),
    (256, (30.4, 15.4, 0.47)), (1024, (30.1, 15.1, 0.12)),
])
def test_states_are_those_of_the_zero_paper(processes, expected):
    """Table 1 of arXiv 1910.02054: 7.5 billion parameters, in GB of 1e9 bytes, to the digits printed."""
    size = Size(7_500_000_000, 7_500_000_000, 4096, 32, 11008)
    for stage, printed in zip((1, 2, 3), expected, strict=True):
        memory = estimate_memory(size, Training(stage), processes)
        states = (memory.weights + memory.gradients + memory.optimizer) / 1e9
        assert states == pytest.approx(printed, abs=0.05 if printed > 2 else 0.005)
    memory = estimate_memory(size, Training(0), processes)
    assert memory.weights + memory.gradients + memory.optimizer == 120e9


def test_peak_by_hand():
    """Every column of the formula once, at a size that can be followed."""
    size = Size(parameters=1000, trained=100, hidden=4, layers=2, intermediate=8)
    tokens = 2 * 1 * 10
    activations = tokens * (2 * 4 * 2 + 27 * 4 + 12 * 8)
    expected = {
        (1, False): 2000 + 600 + max(200 + 2 * 16 + activations, 300),
        (2, False): 2000 + 600 + max(100 + 2 * 16 + activations, 300),
        (3, False): 1000 + 600 + max(100 + 2 * 1016 + activations, 300),
        (2, True): 2000 + 2 * 16 + activations,
        (3, True): 1000 + 2 * 1016 + activations,
    }
    for (stage, offload), peak in expected.items():
        memory = estimate_memory(size, Training(stage, offload), 2, pairs=1, length=10)
        assert memory.peak == peak
        assert memory.host == offload * (20 if stage == 2 else 18) * 50
    large = size._replace(trained=4 * 10**9)
    assert estimate_memory(large, Training(3), 2).step == 2 * 2e9 + 4 * 1e9  # by sub-groups
    assert estimate_memory(large, Training(2), 2).step == 6 * 2e9


@pytest.mark.parametrize("nodes", [1, 2, 8])
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_the_formula_is_deepspeeds_estimate(model, offload, nodes):
    """Weights, optimizer and step; at stage 3 after moving the three terms that only one of them has.

    DeepSpeed adds 4 bytes for each parameter of the largest layer (here: `buffers`), leaves out the bf16 gradients, and
    counts the fp32 gradients as if they were all made at once, not by sub-groups.
    """
    config = MODELS[model]
    size, layer = measure_size(config), config.vocab_size * config.hidden_size
    share = size.parameters / (8 * nodes)
    settings = {"num_gpus_per_node": 8, "num_nodes": nodes, "cpu_offload": offload}
    ours = {stage: estimate_memory(size, Training(stage, offload), 8 * nodes) for stage in (2, 3)}
    second, third = (memory.weights + memory.optimizer + memory.step for memory in ours.values())
    assert second == pytest.approx(estimate_zero2_model_states_mem_needs(size.parameters, **settings)[1], rel=1e-9)
    moved = 4 * layer + (0 if offload else 4 * max(0, share - SUB_GROUP) - 2 * share)
    theirs = estimate_zero3_model_states_mem_needs(size.parameters, layer, cpu_offload_params=False, **settings)[1]
    assert third + moved == pytest.approx(theirs, rel=1e-9)


def test_sizes_are_those_of_the_reward_model():
    """Llama-2-7B has 6,738,415,616 parameters; a scalar head takes the place of 32,000 outputs."""
    assert measure_size(MODELS["7B"]).parameters == 6_738_415_616 - 4096 * 32_000 + 4096
    assert measure_size(MODELS["70B"]).parameters == 70_553_706_496 - 8192 * 128_256 + 8192
    tiny = LlamaConfig(vocab_size=10, hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
                       num_key_value_heads=1, num_labels=1)
    size = measure_size(tiny, lora_rank=2)
    assert size.trained == 3 * 2 * (2 * (8 + 8) + 2 * (8 + 4) + 3 * (8 + 16)) + 8
    assert size.parameters == measure_size(tiny).parameters + size.trained - 8


@pytest.mark.filterwarnings(LIBRARY)
def test_two_processes_hold_what_the_formula_says(tmp_path):
    """To 2 %; no other stage's prediction fits as well."""
    cases = [Training(stage) for stage in (3, 0, 1, 2)] + [Training(1, precision="fp32")]
    rows = held_bytes.compare_states(tmp_path, 2, cases)
    assert len(rows) == 10
    for row in rows:
        assert row["predicted"] == pytest.approx(row["held"], rel=0.02), row
    stages = [row for row in rows if row["moment"] == "accumulating" and row["precision"] == "bf16"]
    for row in stages:
        assert all(abs(row["predicted"] / other["held"] - 1) > 0.05 for other in stages if other is not row)


@pytest.mark.filterwarnings(LIBRARY)
def test_activations_are_what_the_formula_says(monkeypatch):
    monkeypatch.setattr(held_bytes, "SHAPES", ((256, 3, 704, 4, 2),))
    [row] = held_bytes.compare_activations()
    assert row["predicted"] == pytest.approx(row["held"], rel=0.03)


def test_the_table_is_the_formulas():
    tables = read_results("sizing")["figures"]["tables"]
    assert {name: sizing.tabulate(config) for name, config in MODELS.items()} == tables
