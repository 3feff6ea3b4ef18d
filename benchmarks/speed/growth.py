"""How the cost of training grows: with the length of a sequence, and from one process to two under DeepSpeed."""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForSequenceClassification
from trl.trainer.reward_trainer import DataCollatorForPreference

from benchmarks.shared.timing import MIB, Cells, Record, fit_power, run_apart, take_median
from rmkit.core.stage import read_json
from rmkit.data.collators import PairPacker
from rmkit.losses import bradley_terry_loss
from rmkit.models.packed_attention import enable_packing
from rmkit.models.tiny import build_language_model, build_tokenizer
from rmkit.training.batching import take_tokens

SEED = 0
HIDDEN, LAYERS, VOCABULARY = 256, 2, 1024
WORDS = "red green blue grey black white stone river cloud tree lamp door".split()


def step_once(length: int, tokens: int, packed: bool) -> None:
    """Forward and backward, without an optimizer, of random pairs: half of each sequence is their common prompt."""
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
    """Seconds per pair and peak memory of a step, by the length of a sequence; about `tokens` tokens in each batch.

    The padded batch is TRL's collator's, which here has nothing to pad: what is saved is the shared prompt alone.
    """
    def run(length: int, packed: bool, number: int) -> Record:
        return run_apart(partial(step_once, length, tokens, packed))

    sides = {f"{name} {length}": partial(run, length, name == "packed")
             for length in lengths for name in ("packed", "padded")}
    records = Cells(folder, [rounds, tokens, HIDDEN, LAYERS], rounds).run("length", sides)
    figures: dict[str, Any] = {"lengths": list(lengths), "tokens": tokens, "hidden": HIDDEN, "layers": LAYERS}
    for name in ("packed", "padded"):
        cells = [records[f"{name} {length}"] for length in lengths]
        pairs = [max(1, tokens // (2 * length)) for length in lengths]
        seconds = [take_median(cell, "cpu") / count for cell, count in zip(cells, pairs, strict=True)]
        figures[name] = {
            "seconds_per_pair": seconds, "pairs_per_second": [1 / each for each in seconds],
            "peak": [take_median(cell, "peak") for cell in cells], "power": fit_power(lengths, seconds),
        }
    return figures


def write_world(folder: Path, pairs: int) -> None:
    """A small language model and pairs, for `rmkit train`."""
    if (folder / "pairs.parquet").exists():
        return

    def say(start: int, count: int) -> str:
        return " ".join(WORDS[(start * 7 + place * place) % len(WORDS)] for place in range(count))

    sides = (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))
    rows = [
        {"id": str(number), **{side: [{"role": role, "content": say(number + shift, 40)}]
                               for shift, (side, role) in enumerate(sides)}}
        for number in range(pairs)
    ]
    tokenizer = build_tokenizer([say(number, 40) for number in range(50)], VOCABULARY)
    tokenizer.save_pretrained(folder / "base")
    build_language_model(tokenizer, hidden=HIDDEN, layers=LAYERS).save_pretrained(folder / "base")
    Dataset.from_list(rows).to_parquet(folder / "pairs.parquet")


def train_apart(world: Path, processes: int, number: int) -> Record:
    """`rmkit train` under DeepSpeed (ZeRO-2) for one epoch; its own rate, and all it took with its start."""
    with tempfile.TemporaryDirectory() as output:
        log = Path(output) / "log"
        command = [
            sys.executable, "-m", "rmkit", "train", "--data", str(world / "pairs.parquet"), "--model_name_or_path",
            str(world / "base"), "--output_dir", f"{output}/model", "--use_cpu", "true", "--report_to", "none",
            "--save_strategy", "no", "--processes", str(processes), "--seed", str(number), "--disable_tqdm", "true",
            "--per_device_train_batch_size", str(8 // processes),
        ]
        start = time.perf_counter()
        with log.open("wb") as file:
            pid = os.posix_spawn(sys.executable, command, {**os.environ, "OMP_NUM_THREADS": "1"}, file_actions=[
                (os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)])
            _, status, usage = os.wait4(pid, 0)  # what its own children took is in it
        if status:
            raise RuntimeError(f"{' '.join(command)}: {log.read_text()[-2000:]}")
        history = (read_json(Path(output) / "model" / "stage.json") or {})["log_history"]
        rate = next(entry["train_samples_per_second"] for entry in history if "train_samples_per_second" in entry)
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": time.perf_counter() - start, "rate": rate,
            "peak": usage.ru_maxrss / MIB}


def grow_processes(folder: Path, rounds: int, pairs: int, processes: Sequence[int]) -> dict[str, Any]:
    """Pairs per second of wall time while training, by processes; all that was taken from start to end besides."""
    world = folder / f"world-{pairs}"
    world.mkdir(exist_ok=True)
    write_world(world, pairs)
    sides = {str(count): partial(train_apart, world, count) for count in processes}
    records = Cells(folder, [rounds, pairs, HIDDEN, LAYERS], rounds).run("processes", sides)
    return {
        "pairs": pairs, "processes": list(processes), "cores": len(os.sched_getaffinity(0)),
        **{name: [take_median(records[str(count)], name) for count in processes]
           for name in ("rate", "cpu", "wall", "peak")},
    }
