"""Growth of the cost of training with the length of a sequence, and its speed with one and two processes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForSequenceClassification
from trl.trainer.reward_trainer import DataCollatorForPreference

from benchmarks.shared.pairs import make_messages
from benchmarks.shared.timing import Cells, Record, fit_power, run_apart, take_median
from rmkit.core.stage import read_json
from rmkit.data.collators import PairPacker
from rmkit.losses import bradley_terry_loss
from rmkit.models.packed_attention import enable_packing
from rmkit.models.tiny import build_language_model, build_tokenizer
from rmkit.training.batching import take_tokens

SEED = 0
HIDDEN, LAYERS, VOCABULARY = 256, 2, 1024
WORDS = "red green blue grey black white stone river cloud tree lamp door".split()


def run_step(length: int, tokens: int, packed: bool) -> None:
    """Forward and backward pass of random pairs without an optimizer; half of each sequence is the common prompt."""
    generator = torch.Generator().manual_seed(SEED)
    rows = []
    for _ in range(max(1, tokens // (2 * length))):
        prompt, chosen, rejected = torch.randint(1, VOCABULARY, (3, length // 2), generator=generator).tolist()
        rows.append((prompt + chosen, prompt + rejected))
    model = LlamaForSequenceClassification(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=3 * HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // 64, max_position_embeddings=length, num_labels=1, pad_token_id=0,
    ))
    names = ("input_ids_chosen", "input_ids_rejected") if packed else ("chosen_ids", "rejected_ids")
    pairs = [dict(zip(names, row, strict=True)) for row in rows]
    if packed:
        enable_packing(model)
        batch = take_tokens(PairPacker()(pairs), views=1)
    else:
        batch = DataCollatorForPreference(0)(pairs)
    chosen, rejected = model(**batch).logits[:, 0].chunk(2)
    bradley_terry_loss(chosen, rejected).backward()


def grow_length(folder: Path, rounds: int, lengths: Sequence[int], tokens: int) -> dict[str, Any]:
    """Seconds per pair and peak memory of a step by sequence length, with about `tokens` tokens in each batch.

    All sequences of a batch are equally long, so packing saves only the common prompt.
    """
    def run(length: int, packed: bool, number: int) -> Record:
        return run_apart(partial(run_step, length, tokens, packed))

    sides = {f"{name} {length}": partial(run, length, name == "packed")
             for length in lengths for name in ("packed", "padded")}
    records = Cells(folder, [rounds, tokens, HIDDEN, LAYERS], rounds).run("length", sides)
    figures: dict[str, Any] = {"lengths": list(lengths)}
    for name in ("packed", "padded"):
        seconds = [take_median(records[f"{name} {length}"], "cpu") / max(1, tokens // (2 * length))
                   for length in lengths]
        figures[name] = {
            "seconds_per_pair": seconds, "pairs_per_second": [1 / cost for cost in seconds],
            "peak": [take_median(records[f"{name} {length}"], "peak") for length in lengths],
            "power": fit_power(lengths, seconds),
        }
    return figures


def write_inputs(folder: Path, pairs: int) -> None:
    """Write a small language model and pairs for `rmkit train`."""
    texts = [" ".join(WORDS[(start * 7 + index * index) % len(WORDS)] for index in range(40))
             for start in range(max(50, pairs + 2))]
    tokenizer = build_tokenizer(texts[:50], VOCABULARY)
    tokenizer.save_pretrained(folder / "base")
    build_language_model(tokenizer, hidden=HIDDEN, layers=LAYERS).save_pretrained(folder / "base")
    rows = [dict(zip(("prompt", "chosen", "rejected"), texts[number:], strict=False)) for number in range(pairs)]
    Dataset.from_list([{"id": str(number), **make_messages(row)} for number, row in enumerate(rows)]).to_parquet(
        folder / "pairs.parquet")


def train_processes(inputs: Path, processes: int, number: int) -> Record:
    """Pairs per second of an epoch of `rmkit train` under DeepSpeed (ZeRO-2), without its start."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = {
            "data": inputs / "pairs.parquet", "model_name_or_path": inputs / "base", "output_dir": f"{folder}/model",
            "use_cpu": True, "report_to": "none", "save_strategy": "no", "num_processes": processes, "seed": number,
            "disable_tqdm": True, "per_device_train_batch_size": 8 // processes,
        }
        words = [str(word) for key, value in arguments.items() for word in (f"--{key}", value)]
        done = subprocess.run([sys.executable, "-m", "rmkit", "train", *words], capture_output=True, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode:
            raise RuntimeError(f"rmkit train {' '.join(words)}: {done.stderr[-2000:]}")
        history = (read_json(Path(folder) / "model" / "stage.json") or {})["log_history"]
    return {"rate": next(entry["train_samples_per_second"] for entry in history if "train_samples_per_second" in entry)}


def grow_processes(folder: Path, rounds: int, pairs: int, processes: Sequence[int]) -> dict[str, Any]:
    """Pairs per second of wall time during training, by number of processes."""
    inputs = folder / f"inputs-{pairs}"
    write_inputs(inputs, pairs)
    sides = {str(count): partial(train_processes, inputs, count) for count in processes}
    records = Cells(folder, [rounds, pairs, HIDDEN, LAYERS], rounds).run("processes", sides)
    return {"processes": list(processes), "rate": [take_median(records[str(count)], "rate") for count in processes]}
