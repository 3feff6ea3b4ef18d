"""The throughput benchmark: fast mode from end to end, and what its parts count and measure."""

import gzip
import itertools
import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForSequenceClassification

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*gradient_checkpointing. is deprecated:FutureWarning", "ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def throughput():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        from benchmarks.speed import throughput

        yield throughput


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Pairs of differing lengths under the names of the real ones, and two debates."""
    folder = tmp_path_factory.mktemp("data")
    paths = {}
    for name, prompt in (("hh_rlhf_test", 5), ("qa_feedback_dev", 60)):
        rows = [{"prompt": f"question {number} " + "why " * (prompt + number % 9), "chosen": "yes " * (1 + number % 17),
                 "rejected": "no " * (1 + number % 5)} for number in range(40)]
        paths[name] = folder / f"{name}.jsonl.gz"
        write(paths[name], rows)
    rows = []
    for topic in ("cats", "dogs"):
        texts = [f"{topic} " + "word " * count for count in range(5, 11)]
        rows += [{"topic": topic, "prompt": f"{topic}?", "gold": "chosen", "chosen": longer, "rejected": other}
                 for other, longer in itertools.combinations(texts, 2)]
    write(folder / "ukp.jsonl.gz", rows)
    return paths, folder / "ukp.jsonl.gz"


def write(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def model():
    return LlamaForSequenceClassification(LlamaConfig(
        vocab_size=50, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, num_labels=1, pad_token_id=0))


def test_fast_mode_fills_every_table(throughput, files, tmp_path):
    paths, arguments = files
    parts = throughput.list_parts(paths, arguments, tmp_path, throughput.SMALL)
    assert set(parts) == set(throughput.PARTS)
    figures = throughput.measure(parts, throughput.QUICK, 1)
    for contest in figures["training"]:
        assert contest["gradient"]["relative"] < 1e-5
        assert len(contest["rivals"]) == 4
        for theirs, ours in contest["rivals"].items():
            assert contest["sides"][theirs]["tokens_per_pair"] > 1.2 * contest["sides"][ours]["tokens_per_pair"]
    table = throughput.format_tables(figures)
    for text in ("qa_feedback_dev, 1 layers of 32: TRL, best, bf16", "ten heads / one head", "70B", "tokens"):
        assert text in table


def test_the_other_side_is_trl_as_it_comes(throughput, tmp_path):
    """What the benchmark says of TRL's defaults, read from TRL."""
    import trl

    from benchmarks.speed.training import COMMON, SETTINGS

    args = trl.RewardConfig(output_dir=str(tmp_path), use_cpu=True)
    assert args.per_device_train_batch_size == COMMON["per_device_train_batch_size"]
    assert args.max_length == COMMON["max_length"]
    assert args.gradient_checkpointing and args.bf16 and args.train_sampling_strategy == "random"
    assert SETTINGS["TRL, defaults"] == ("TRL", "random", {}) and SETTINGS["rmkit, fp32"] == ("rmkit", "random", {})


def test_what_the_readme_says_of_the_measurement():
    """In fp32 on both sides; TRL's defaults are bf16, which is held against rmkit in bf16 too."""
    path = ROOT / "benchmarks/results/throughput.json"
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    for contest in figures["training"]:
        ratio = {side: entry["median"] for side, entry in contest["ratio"].items()}
        assert ratio["TRL, defaults, fp32"] >= 3.5 and ratio["TRL, best, fp32"] >= 1.6
        assert contest["gradient"]["relative"] < 1e-5
    if "ensembles" in figures:
        ratio = {name: entry["median"] for name, entry in figures["ensembles"]["ratio"].items()}
        assert ratio["ten heads / one head"] <= 1.2 and ratio["ten lora voters / one LoRA run"] <= 3


def test_operations_are_those_that_torch_counts(throughput, model):
    from benchmarks.speed.products import count_attention, count_operations, count_shapes

    tokens, batch = 24, 2
    ids = torch.randint(1, 50, (batch, tokens))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    counted = {str(name): value for name, value in counter.get_flop_counts()["Global"].items()}
    attention = sum(value for name, value in counted.items() if "attention" in name)
    head = 2 * 64 * batch * tokens  # transformers gives every token a reward, and reads the last
    products = sum(counted.values()) - attention - head
    rotary = products - count_operations(count_shapes(model)) * batch * tokens
    assert 0 <= rotary <= 0.01 * products  # positions by frequencies
    if attention:  # a kernel's name says so; it is counted whole, above the diagonal too
        assert count_attention(64, 3, batch * tokens**2) == attention


def test_a_peak_is_operations_by_seconds(throughput, monkeypatch):
    from benchmarks.speed import products as throughput_products
    from benchmarks.speed.products import Shapes, measure_peak

    monkeypatch.setattr(throughput_products, "time_product", lambda left, right: 2.0)
    shapes = Shapes({(4, 8): 3, (8, 2): 1})
    assert measure_peak(shapes, 10, torch.float32) == (3 * 2 * 10 * 32 + 2 * 10 * 16) / (4 * 2.0)


def test_rounds_take_turns_and_are_kept(throughput, tmp_path):
    from benchmarks.shared.timing import Cells

    calls = []

    def side(name):
        return lambda number: calls.append((name, number)) or {"cpu": 1.0 + number}

    sides = {name: side(name) for name in "abc"}
    assert Cells(tmp_path, {"x": 1}, 2).run("try", sides)["b"] == [{"cpu": 1.0}, {"cpu": 2.0}]
    assert calls == [("a", 0), ("b", 0), ("c", 0), ("c", 1), ("b", 1), ("a", 1)]
    Cells(tmp_path, {"x": 1}, 3).run("try", sides)
    assert calls[6:] == [("a", 2), ("b", 2), ("c", 2)]
    Cells(tmp_path, {"x": 2}, 1).run("try", sides)
    assert len(calls) == 12


def test_ratios_are_of_the_same_round(throughput):
    from benchmarks.shared.timing import compare

    seconds = {"dear": (2.0, 30.0, 4.0), "cheap": (1.0, 10.0, 1.0)}
    records = {side: [{"cpu": each} for each in values] for side, values in seconds.items()}
    assert compare(records, "dear", "cheap") == {"median": 3.0, "low": 2.0, "high": 4.0}


def test_fits_find_what_was_put_in(throughput):
    from benchmarks.shared.timing import fit_line, fit_power

    sizes = (1, 2, 4, 8)
    assert fit_power(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx({"factor": 3, "exponent": 1.5})
    assert fit_line(sizes, [2 + 0.5 * size for size in sizes]) == pytest.approx({"start": 2, "slope": 0.5})


def test_a_fork_tells_its_own_peak(throughput):
    from benchmarks.shared.timing import run_apart

    before = bytearray(b"x") * (64 << 20)  # what the parent holds does not count
    small, large = (run_apart(lambda size=size: bytearray(b"x") * (size << 20))["peak"] for size in (1, 64))
    assert len(before) and small < 16 and 60 < large < 90
    with pytest.raises(RuntimeError, match="without a result"):
        run_apart(lambda: exit(1))


def test_samples_are_spread_over_all_lengths_and_differ_by_round(throughput):
    import numpy as np

    from benchmarks.speed.pairs import BATCH, Pairs

    batches = np.arange(100 * BATCH).reshape(100, BATCH)
    pairs = Pairs(*[None] * 4, np.empty((0, 2)), np.empty(0), {"random": batches})
    samples = [pairs.sample("random", 4, number, 5) for number in range(5)]
    assert all(sample[:BATCH] == list(batches[-1]) for sample in samples)  # the shortest, to warm up
    assert len({*itertools.chain(*(sample[BATCH:] for sample in samples))}) == 5 * 4 * BATCH
    for number, sample in enumerate(samples):
        expected = [int(25 * (place + (number + 0.5) / 5)) for place in range(4)]
        assert [row // BATCH for row in sample[BATCH::BATCH]] == expected


def test_waste_by_hand(throughput):
    import numpy as np

    from benchmarks.speed.pairs import BATCH, Pairs, measure_waste

    lengths = np.array([[10, 6]] * (BATCH - 1) + [[20, 8]])
    shared = np.full(BATCH, 4)
    waste = measure_waste(Pairs(*[None] * 4, lengths, shared, {"grouped": np.arange(BATCH)[None]}))
    assert waste["padded, grouped"] == {"tokens": 40, "seen": 400}
    assert waste["packed"]["tokens"] == (7 * 12 + 24) / BATCH
    assert waste["packed"]["seen"] == (7 * (50 + 2 * 4 + 2) + (200 + 4 * 4 + 8)) / BATCH


def test_estimate_by_hand(throughput):
    """Llama-2-7B without its embedding and head has 6,476,005,376 weights in linear layers."""
    from benchmarks.speed.estimate import PEAK, UTILISATION, WASTE, estimate

    epochs = {"some": {way: {"tokens": 100.0, "seen": 1000.0} for way in WASTE}}
    row = estimate(epochs)[0]
    operations = 4 * (2 * 6_476_005_376 * 100 + 4 * 4096 * 32 * 1000)
    assert row["operations"] == pytest.approx(operations)
    assert row["pairs_per_second_and_gpu"] == pytest.approx([share * PEAK / operations for share in UTILISATION])
    assert row["hours"]["8"] == pytest.approx([160_000 * operations / (share * PEAK) / 8 / 3600
                                               for share in UTILISATION[::-1]])
