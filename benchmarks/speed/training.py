"""Training speed on pairs: rmkit's packed rows beside TRL's RewardTrainer, with its defaults and at its best."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import trl
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.reward_trainer import DataCollatorForPreference

from benchmarks.shared.timing import Cells, Record, compare, take_median
from benchmarks.speed.data import BATCH, MAX_LENGTH, SEED, Pairs, measure_waste, read_pairs
from benchmarks.speed.flops import PASSES, count_operations, count_shapes, measure_peak
from rmkit.losses import bradley_terry_loss
from rmkit.training.batching import choose_collator, take_tokens
from rmkit.training.reward_trainer import RewardConfig, RewardTrainer

# Of both trainers, which see the same batches in the same order.
COMMON: dict[str, Any] = {
    "use_cpu": True, "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "learning_rate": 1e-5,
    "max_length": MAX_LENGTH, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
    "train_sampling_strategy": "sequential",
}


class Side(NamedTuple):
    """A trainer, the sampler of its batches, and its arguments that are not defaults."""

    trainer: str
    sampler: str
    changes: dict[str, Any] = {}


BEST = {"gradient_checkpointing": False}  # with length-grouped batches
SIDES = {
    "TRL, defaults": Side("TRL", "random"),
    "rmkit, bf16": Side("rmkit", "random", {"bf16": True}),
    "TRL, defaults, fp32": Side("TRL", "random", {"bf16": False}),
    "rmkit, fp32": Side("rmkit", "random"),
    "TRL, best, bf16": Side("TRL", "grouped", BEST),
    "rmkit, bf16, grouped": Side("rmkit", "grouped", {"bf16": True}),
    "TRL, best, fp32": Side("TRL", "grouped", {"bf16": False, **BEST}),
    "rmkit, fp32, grouped": Side("rmkit", "grouped"),
}
# TRL's side -> rmkit's on the same batches in the same precision
RIVALS = dict(zip(list(SIDES)[::2], list(SIDES)[1::2], strict=True))


@dataclass(frozen=True)
class Workload:
    """A file, of which `rows` pairs are read, and a model; `batches` of 8 pairs are timed in a round."""

    data: str
    hidden: int
    layers: int
    batches: int
    rows: int = 800

    def build_model(self, tokenizer: PreTrainedTokenizerBase) -> LlamaForSequenceClassification:
        """A Llama with random weights and attention heads of 64."""
        torch.manual_seed(SEED)
        return LlamaForSequenceClassification(LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=self.hidden, intermediate_size=3 * self.hidden,
            num_hidden_layers=self.layers, num_attention_heads=max(1, self.hidden // 64),
            max_position_embeddings=MAX_LENGTH, num_labels=1, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        ))


WORKLOADS = (
    Workload("hh_rlhf_test", hidden=256, layers=6, batches=2),
    Workload("qa_feedback_dev", hidden=256, layers=6, batches=1),
)
LARGER = (Workload("hh_rlhf_test", hidden=512, layers=8, batches=1),)


class Stopwatch(TrainerCallback):
    """Processor seconds of a training and tokens of its forward passes, without the first step, which is warm-up."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.tokens: list[int] = []
        self.seconds = 0.0
        embeddings = model.get_input_embeddings()
        embeddings.register_forward_hook(lambda module, inputs, output: self.tokens.append(inputs[0].numel()))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start after the first step."""
        if state.global_step == 1:
            self.tokens.clear()
            self.seconds = -time.process_time()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop."""
        self.seconds += time.process_time()


def run_side(side: Side, workload: Workload, pairs: Pairs, rounds: int, number: int) -> Record:
    """Train a new model on the pairs of a round: seconds, tokens, passes, and the machine's peak at such batches."""
    rows = pairs.sample(side.sampler, workload.batches, number, rounds)
    model = workload.build_model(pairs.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        settings = {**COMMON, **side.changes, "output_dir": folder, "seed": number}
        trainer = build_trainer(side.trainer, model, settings, pairs, rows)
        watch = Stopwatch(model)
        trainer.add_callback(watch)
        trainer.train()
    dtype, tokens = torch.bfloat16 if trainer.args.bf16 else torch.float32, sum(watch.tokens)
    passes = PASSES + bool(trainer.args.gradient_checkpointing)
    peak = measure_peak(count_shapes(model), tokens // workload.batches, dtype)
    return {"cpu": watch.seconds, "pairs": len(rows) - BATCH, "tokens": tokens, "passes": passes, "peak": peak}


def build_trainer(
    name: str, model: PreTrainedModel, settings: dict[str, Any], pairs: Pairs, rows: Sequence[int]
) -> RewardTrainer | trl.RewardTrainer:
    """rmkit's trainer or TRL's, each of which tokenises the pairs itself. Asserts that their tokens are equal."""
    inputs = {"processing_class": pairs.tokenizer, "train_dataset": pairs.messages.select(rows)}
    if name == "rmkit":
        return RewardTrainer(model, RewardConfig(**settings), **inputs)
    trainer = trl.RewardTrainer(model, trl.RewardConfig(dataloader_pin_memory=False, **settings), **inputs)
    for side in ("chosen", "rejected"):
        ours = pairs.encoded.select(rows)[f"input_ids_{side}"]
        assert list(trainer.train_dataset[f"{side}_ids"]) == list(ours), "the trainers read different tokens"
    return trainer


def compare_gradients(workload: Workload, pairs: Pairs, rows: Sequence[int]) -> float:
    """Difference of one step's gradients in float64 between packed and padded rows, relative to the padded one's norm.

    Packed rows are rmkit's, padded ones those of TRL's collator and loss on an unchanged model.
    """
    encoded = pairs.encoded.select(rows).to_list()
    with tempfile.TemporaryDirectory() as folder:
        args = RewardConfig(output_dir=folder, use_cpu=True)
    model = workload.build_model(pairs.tokenizer).double()
    batch = choose_collator(model, pairs.tokenizer, args, MAX_LENGTH)(encoded)
    chosen, rejected = model(**take_tokens(batch, views=1)).logits[:, 0].chunk(2)
    packed = differentiate(model, bradley_terry_loss(chosen, rejected))
    model = workload.build_model(pairs.tokenizer).double()
    batch = DataCollatorForPreference(pairs.tokenizer.pad_token_id)([
        {"chosen_ids": row["input_ids_chosen"], "rejected_ids": row["input_ids_rejected"]} for row in encoded
    ])
    chosen, rejected = model(**batch).logits.squeeze(-1).chunk(2)
    padded = differentiate(model, -torch.nn.functional.logsigmoid(chosen - rejected).mean())
    return float((packed - padded).norm()) / float(padded.norm())


def differentiate(model: PreTrainedModel, loss: torch.Tensor) -> torch.Tensor:
    """The gradient of the loss in all weights, as one vector."""
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, list(model.parameters()))])


def run_workload(workload: Workload, file: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Pairs per second, ratios, and shares of the machine's peak (`needed_share`: without padding); all are medians."""
    pairs = read_pairs(file, workload.rows)
    cells = Cells(folder, [asdict(workload), repr(COMMON), repr(SIDES), rounds], rounds)
    records = cells.run(f"{workload.data}-{workload.hidden}-{workload.layers}", {
        name: partial(run_side, side, workload, pairs, rounds) for name, side in SIDES.items()})
    operations = count_operations(count_shapes(workload.build_model(pairs.tokenizer)))
    sides: dict[str, Any] = {}
    for name, by_round in records.items():
        figures = [{
            "pairs_per_second": record["pairs"] / record["cpu"],
            "tokens_per_pair": record["tokens"] / record["pairs"],
            "share": operations * record["passes"] * record["tokens"] / record["cpu"] / record["peak"],
            "needed_share": operations * PASSES * packed["tokens"] / record["cpu"] / record["peak"],
        } for record, packed in zip(by_round, records[RIVALS.get(name, name)], strict=True)]
        sides[name] = {figure: take_median(figures, figure) for figure in figures[0]}
    return {
        **asdict(workload), "sides": sides, "rivals": RIVALS,
        "ratio": {theirs: compare(records, theirs, ours) for theirs, ours in RIVALS.items()},
        "epoch": measure_waste(pairs),
        "gradient": {"relative": compare_gradients(workload, pairs, pairs.sample("random", 1, 0, 1)[BATCH:])},
    }
