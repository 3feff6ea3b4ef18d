"""The speed benchmarks: small runs from end to end, and what their parts count and measure."""

import gzip
import itertools
import json

import numpy as np
import pytest
import torch
import trl
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForSequenceClassification

from benchmarks.shared.timing import Cells, compare, fit_line, fit_power, run_apart
from benchmarks.speed import flops, scoring
from benchmarks.speed.data import BATCH, Pairs, measure_waste, sample_rows
from benchmarks.speed.growth import grow_length
from benchmarks.speed.training import COMMON, SIDES, Workload, run_workload
from benchmarks.voters.costs import grow_members, run_ensembles

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*gradient_checkpointing. is deprecated:FutureWarning", "ignore:.*is_gradient_checkpointing:FutureWarning")


def write(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def test_small_measurements_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    pairs = write(tmp_path / "pairs.jsonl.gz", [
        {"prompt": f"question {number} " + "why " * (60 + number % 9), "chosen": "yes " * (1 + number % 17),
         "rejected": "no " * (1 + number % 5)} for number in range(40)
    ])
    workload = run_workload(Workload("data", 32, 1, 1, rows=32), pairs, tmp_path, 1)
    assert workload["gradient"]["relative"] < 1e-5 and len(workload["rivals"]) == 4
    for theirs, ours in workload["rivals"].items():
        assert workload["sides"][theirs]["tokens_per_pair"] > 1.2 * workload["sides"][ours]["tokens_per_pair"]
    assert {row["model"] for row in flops.estimate({"data": workload["epoch"]})} == {"7B", "70B"}
    length = grow_length(tmp_path, 1, (64, 128), 256)
    assert all(len(length[side]["peak"]) == 2 for side in ("packed", "padded"))
    texts = [" ".join(["cats", *["word"] * count]) for count in range(5, 11)]
    arguments = write(tmp_path / "ukp.jsonl.gz", [
        {"topic": "cats", "prompt": "cats?", "gold": "chosen", "chosen": longer, "rejected": other}
        for other, longer in itertools.combinations(texts, 2)
    ])
    assert "ten heads / one head" in run_ensembles(arguments, tmp_path, 1, 8)["ratio"]
    assert grow_members(arguments, tmp_path, 1, 8, (1, 2))["heads"]["sizes"] == [1, 2]


def test_the_other_side_is_trl_with_its_defaults(tmp_path):
    args = trl.RewardConfig(output_dir=str(tmp_path), use_cpu=True)
    assert args.per_device_train_batch_size == COMMON["per_device_train_batch_size"]
    assert args.max_length == COMMON["max_length"]
    assert args.gradient_checkpointing and args.bf16 and args.train_sampling_strategy == "random"
    assert SIDES["TRL, defaults"] == ("TRL", "random", {}) and SIDES["rmkit, fp32"] == ("rmkit", "random", {})


def test_operations_are_those_that_torch_counts():
    model = LlamaForSequenceClassification(LlamaConfig(
        vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, num_labels=1, pad_token_id=0))
    tokens, batch = 24, 2
    ids = torch.randint(1, 50, (batch, tokens))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    counted = {str(name): value for name, value in counter.get_flop_counts()["Global"].items()}
    attention = sum(value for name, value in counted.items() if "attention" in name)
    head = 2 * 64 * batch * tokens  # transformers gives every token a reward, and reads the last
    products = sum(counted.values()) - attention - head
    rotary = products - flops.count_operations(flops.count_shapes(model)) * batch * tokens
    assert 0 <= rotary <= 0.01 * products  # rotary position embeddings
    if attention:  # not on every platform; counted above the diagonal too
        assert flops.count_attention(64, 3, batch * tokens**2) == attention


def test_a_peak_is_operations_by_seconds(monkeypatch):
    monkeypatch.setattr(flops, "time_product", lambda left, right: 2.0)
    shapes = flops.Shapes({(4, 8): 3, (8, 2): 1})
    assert flops.measure_peak(shapes, 10, torch.float32) == (3 * 2 * 10 * 32 + 2 * 10 * 16) / (4 * 2.0)


def test_estimate_by_hand():
    """Llama-2-7B without its embedding and head has 6,476,005,376 weights in linear layers."""
    waste = {"some": {batching: {"tokens": 100.0, "seen": 1000.0} for batching in flops.BATCHINGS}}
    row = flops.estimate(waste)[0]
    operations = 4 * (2 * 6_476_005_376 * 100 + 4 * 4096 * 32 * 1000)
    rates = [share * flops.PEAK / operations for share in flops.UTILISATION]
    assert row["operations"] == pytest.approx(operations)
    assert row["pairs_per_second_and_gpu"] == pytest.approx(rates)
    assert row["hours"]["8"] == pytest.approx([160_000 / rate / 8 / 3600 for rate in rates[::-1]])


def test_sides_alternate_and_rounds_are_kept(tmp_path):
    calls = []
    sides = {name: lambda number, name=name: calls.append((name, number)) or {"cpu": 1.0 + number} for name in "abc"}
    assert Cells(tmp_path, {"x": 1}, 2).run("try", sides)["b"] == [{"cpu": 1.0}, {"cpu": 2.0}]
    assert calls == [("a", 0), ("b", 0), ("c", 0), ("c", 1), ("b", 1), ("a", 1)]
    Cells(tmp_path, {"x": 1}, 3).run("try", sides)
    assert calls[6:] == [("a", 2), ("b", 2), ("c", 2)]
    Cells(tmp_path, {"x": 2}, 1).run("try", sides)
    assert len(calls) == 12


def test_ratios_are_of_the_same_round_and_fits_find_what_was_put_in():
    seconds = {"slow": (2.0, 30.0, 4.0), "fast": (1.0, 10.0, 1.0)}
    records = {side: [{"cpu": value} for value in values] for side, values in seconds.items()}
    assert compare(records, "slow", "fast") == {"median": 3.0, "low": 2.0, "high": 4.0}
    sizes = (1, 2, 4, 8)
    assert fit_power(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx({"factor": 3, "exponent": 1.5})
    assert fit_line(sizes, [2 + 0.5 * size for size in sizes]) == pytest.approx({"start": 2, "slope": 0.5})


def test_a_fork_measures_its_own_peak():
    before = bytearray(b"x") * (64 << 20)  # memory of the parent does not count
    small, large = (run_apart(lambda size=size: bytearray(b"x") * (size << 20))["peak"] for size in (1, 64))
    assert len(before) and small < 16 and 60 < large < 90
    with pytest.raises(RuntimeError, match="without a result"):
        run_apart(lambda: exit(1))


def test_samples_are_spread_over_all_lengths_and_differ_by_round():
    batches = np.arange(100 * BATCH).reshape(100, BATCH)
    pairs = Pairs(*[None] * 3, np.empty((0, 2)), np.empty(0), {"random": batches})
    samples = [pairs.sample("random", 4, number, 5) for number in range(5)]
    assert all(sample[:BATCH] == list(batches[-1]) for sample in samples)  # the shortest, to warm up
    assert len({*itertools.chain(*(sample[BATCH:] for sample in samples))}) == 5 * 4 * BATCH
    for number, sample in enumerate(samples):
        expected = [int(25 * (index + (number + 0.5) / 5)) for index in range(4)]
        assert [row // BATCH for row in sample[BATCH::BATCH]] == expected


def test_waste_by_hand():
    lengths = np.array([[10, 6]] * (BATCH - 1) + [[20, 8]])
    shared = np.full(BATCH, 4)
    waste = measure_waste(Pairs(*[None] * 3, lengths, shared, {"grouped": np.arange(BATCH)[None]}))
    assert waste["padded, grouped"] == {"tokens": 40, "seen": 400}
    assert waste["packed"]["tokens"] == (7 * 12 + 24) / BATCH
    assert waste["packed"]["seen"] == (7 * (50 + 2 * 4 + 2) + (200 + 4 * 4 + 8)) / BATCH


@pytest.fixture
def scored(monkeypatch, tmp_path):
    """Prompts with four responses each, and a tiny model."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setattr(scoring, "MODEL", {"hidden": 32, "layers": 1})
    monkeypatch.setattr(scoring, "VOCABULARY", 300)
    path = write(tmp_path / "hh_rlhf_test.jsonl.gz", [
        {"prompt": f"Question {number // 2}?", "chosen": f"Yes {'yes ' * number}", "rejected": f"No {number}."}
        for number in range(20)
    ])
    return scoring.load(path, tmp_path)


def test_a_prompts_own_responses_come_first_and_all_differ(scored):
    prompts, (_, tokenizer) = scored
    assert len(prompts) == 10 and all(len(own) == 4 for _, own in prompts)
    rows = sample_rows(prompts, 8, tokenizer, 2, 5)
    assert [row["prompt"][0]["content"] for row in rows] == [prompt for prompt, _ in prompts[2:7]]
    for row, (_, own) in zip(rows, prompts[2:7], strict=True):
        texts = [response[0]["content"] for response in row["responses"]]
        assert texts[:4] == own and len(set(texts)) == len(texts) == 8


def test_both_sides_give_the_same_rewards_and_others_are_noticed(scored):
    prompts, loaded = scored
    rows = sample_rows(prompts, 8, loaded[1], 0, 3)
    reference = scoring.score_one_by_one(loaded, rows)
    assert len(reference) == 24 and np.std(reference) > 1e-5
    for score in (scoring.score_by_rmkit, lambda *both: scoring.score_by_pipeline(*both, batch_size=4)):
        scoring.run_round(lambda rows, score=score: score(loaded, rows), lambda number: reference, [rows], 0)
    with pytest.raises(AssertionError, match="rewards differ"):
        scoring.run_round(lambda rows: np.array(reference) + 1e-3, lambda number: reference, [rows], 0)
