"""Training a reward model on pairs: rmkit's packed rows against TRL's RewardTrainer, as it comes and at its best."""

import tempfile
import time
from collections.abc import Mapping, Sequence
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

from benchmarks.shared.timing import Cells, Record, Side, compare, take_median
from benchmarks.speed.pairs import BATCH, MAX_LENGTH, SEED, Pairs, measure_waste, read_pairs
from benchmarks.speed.products import PASSES, count_attention, count_operations, count_shapes, measure_peak
from rmkit.losses import bradley_terry_loss
from rmkit.training.batching import choose_collator, take_tokens
from rmkit.training.reward_trainer import RewardConfig, RewardTrainer

# What both sides set: they go through the same batches in the same order. The optimizer is both one's default, AdamW.
COMMON: dict[str, Any] = {
    "use_cpu": True, "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "learning_rate": 1e-5,
    "max_length": MAX_LENGTH, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
    "train_sampling_strategy": "sequential",
}


class Setting(NamedTuple):
    """One side: whose trainer, which batches, and what is not its default."""

    trainer: str
    batches: str
    changes: dict[str, Any] = {}


BEST = {"gradient_checkpointing": False}  # and length-grouped batches
SETTINGS = {
    "TRL, defaults": Setting("TRL", "random"),
    "rmkit, bf16": Setting("rmkit", "random", {"bf16": True}),
    "TRL, defaults, fp32": Setting("TRL", "random", {"bf16": False}),
    "rmkit, fp32": Setting("rmkit", "random"),
    "TRL, best, bf16": Setting("TRL", "grouped", BEST),
    "rmkit, bf16, grouped": Setting("rmkit", "grouped", {"bf16": True}),
    "TRL, best, fp32": Setting("TRL", "grouped", {"bf16": False, **BEST}),
    "rmkit, fp32, grouped": Setting("rmkit", "grouped"),
}
# TRL's side -> rmkit's on the same batches in the same precision
RIVALS = dict(zip(list(SETTINGS)[::2], list(SETTINGS)[1::2], strict=True))


@dataclass(frozen=True)
class Contest:
    """One file and one model; `batches` of 8 pairs in a round, and one to warm up with."""

    data: str
    hidden: int
    layers: int
    batches: int
    rows: int = 800  # of the file, from which the rounds' pairs are drawn

    def build_model(self, tokenizer: PreTrainedTokenizerBase) -> LlamaForSequenceClassification:
        """A Llama with random weights and heads of 64."""
        torch.manual_seed(SEED)
        return LlamaForSequenceClassification(LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=self.hidden, intermediate_size=3 * self.hidden,
            num_hidden_layers=self.layers, num_attention_heads=max(1, self.hidden // 64),
            max_position_embeddings=MAX_LENGTH, num_labels=1, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        ))


CONTESTS = (
    Contest("hh_rlhf_test", hidden=256, layers=6, batches=2),
    Contest("qa_feedback_dev", hidden=256, layers=6, batches=1),
)
LARGER = (Contest("hh_rlhf_test", hidden=512, layers=8, batches=1),)
FAST = (Contest("qa_feedback_dev", hidden=32, layers=1, batches=1, rows=32),)


class Stopwatch(TrainerCallback):
    """Seconds of a training and the tokens of its forwards, without the first step, which warms up."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.tokens: list[int] = []
        embeddings = model.get_input_embeddings()
        embeddings.register_forward_hook(lambda module, given, states: self.tokens.append(given[0].numel()))
        self.record: Record = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start after the first step."""
        if state.global_step == 1:
            self.tokens.clear()
            self.record = {"cpu": -time.process_time(), "wall": -time.perf_counter()}

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop."""
        self.record["cpu"] += time.process_time()
        self.record["wall"] += time.perf_counter()


def run_side(name: str, contest: Contest, pairs: Pairs, rounds: int, number: int) -> Record:
    """Train a new model on the round's pairs; seconds, tokens read, forwards, and the peak at such rows."""
    setting = SETTINGS[name]
    rows = pairs.sample(setting.batches, contest.batches, number, rounds)
    model = contest.build_model(pairs.tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        changes = {**COMMON, **setting.changes, "output_dir": folder, "seed": number}
        trainer = start(setting.trainer, model, changes, pairs, rows)
        watch = Stopwatch(model)
        trainer.add_callback(watch)
        trainer.train()
    half, tokens = bool(trainer.args.bf16), sum(watch.tokens)
    passes = PASSES + bool(trainer.args.gradient_checkpointing)
    peak = measure_peak(count_shapes(model), tokens // contest.batches, torch.bfloat16 if half else torch.float32)
    return {**watch.record, "pairs": len(rows) - BATCH, "tokens": tokens, "passes": passes, "peak": peak}


def start(trainer: str, model: PreTrainedModel, settings: dict[str, Any], pairs: Pairs, rows: Sequence[int]) -> Any:
    """The trainer of one side."""
    if trainer == "rmkit":
        return RewardTrainer(model, RewardConfig(**settings), processing_class=pairs.tokenizer,
                             train_dataset=pairs.ours.select(rows))
    return trl.RewardTrainer(
        model=model, args=trl.RewardConfig(dataloader_pin_memory=False, **settings), processing_class=pairs.tokenizer,
        train_dataset=pairs.theirs.select(rows),
    )


def compare_gradients(contest: Contest, pairs: Pairs, rows: Sequence[int]) -> dict[str, float]:
    """How far one step's gradients are apart, as shares of the padded one's norm in float64.

    `relative`: packed from padded, both in float64; `packed_fp32` and `padded_fp32`: each in fp32 from the padded one
    in float64. What chosen and rejected give to their common prompt nearly cancels, the more so the longer it is, and
    fp32's rounding with it grows.
    """
    exact = {packed: find_gradient(contest, pairs, rows, packed, torch.float64) for packed in (True, False)}
    norm = float(exact[False].norm())
    found = {"relative": float((exact[True] - exact[False]).norm()) / norm}
    for name, packed in (("packed_fp32", True), ("padded_fp32", False)):
        rounded = find_gradient(contest, pairs, rows, packed, torch.float32)
        found[name] = float((rounded - exact[False]).norm()) / norm
    return found


def find_gradient(
    contest: Contest, pairs: Pairs, rows: Sequence[int], packed: bool, dtype: torch.dtype
) -> torch.Tensor:
    """All weights' gradient; padded is TRL's collator and loss, on a model that rmkit has not touched."""
    model = contest.build_model(pairs.tokenizer).to(dtype)
    if packed:
        with tempfile.TemporaryDirectory() as folder:
            args = RewardConfig(output_dir=folder, use_cpu=True)
        collate = choose_collator(model, pairs.tokenizer, args, MAX_LENGTH)
        batch = collate([pairs.ours[row] for row in rows])
        chosen, rejected = model(**take_tokens(batch, views=1)).logits[:, 0].chunk(2)
        loss = bradley_terry_loss(chosen, rejected)
    else:
        batch = DataCollatorForPreference(pairs.tokenizer.pad_token_id)([pairs.theirs[row] for row in rows])
        chosen, rejected = model(**batch).logits.squeeze(-1).chunk(2)
        loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
    loss.backward()
    return torch.cat([weight.grad.double().flatten() for weight in model.parameters()])


def summarise_contest(contest: Contest, pairs: Pairs, records: Mapping[str, list[Record]]) -> dict[str, Any]:
    """Pairs per second, shares of the peak and ratios, medians over rounds."""
    model = contest.build_model(pairs.tokenizer)
    operations = count_operations(count_shapes(model))
    sides: dict[str, Any] = {}
    for name, rounds in records.items():
        figures = [{
            "pairs_per_second": record["pairs"] / record["cpu"],
            "tokens_per_pair": record["tokens"] / record["pairs"],
            "peak": record["peak"],
            "share": operations * record["passes"] * record["tokens"] / record["cpu"] / record["peak"],
            "needed_share": operations * PASSES * packed["tokens"] / record["cpu"] / record["peak"],
            "wall": record["wall"],
        } for record, packed in zip(rounds, records[RIVALS.get(name, name)], strict=True)]
        sides[name] = {figure: take_median(figures, figure) for figure in figures[0]}
    waste = measure_waste(pairs)
    attention = {name: count_attention(contest.hidden, contest.layers, entry["seen"]) / (operations * entry["tokens"])
                 for name, entry in waste.items()}
    return {
        **asdict(contest), "parameters": sum(weight.numel() for weight in model.parameters()), "sides": sides,
        "rivals": RIVALS,
        "ratio": {theirs: compare(records, theirs, ours) for theirs, ours in RIVALS.items()},
        "ratio_wall": {theirs: compare(records, theirs, ours, "wall") for theirs, ours in RIVALS.items()},
        "ratio_tokens": {theirs: compare(records, theirs, ours, "tokens") for theirs, ours in RIVALS.items()},
        "operations_per_token": operations, "attention_left_out": attention, "epoch": waste,
        "gradient": compare_gradients(contest, pairs, pairs.sample("random", 1, 0, 1)[BATCH:]),
    }


def run_contests(contests: Sequence[Contest], files: Mapping[str, Path], folder: Path, rounds: int) -> list[Any]:
    """All contests whose file is given."""
    figures = []
    read: dict[tuple[str, int], Pairs] = {}
    for contest in (contest for contest in contests if contest.data in files):
        key = contest.data, contest.rows
        if key not in read:
            read[key] = read_pairs(files[contest.data], contest.rows, contest.build_model)
        pairs = read[key]
        cells = Cells(folder, [asdict(contest), repr(COMMON), repr(SETTINGS), rounds], rounds)
        sides: dict[str, Side] = {name: partial(run_side, name, contest, pairs, rounds) for name in SETTINGS}
        records = cells.run(f"{contest.data}-{contest.hidden}-{contest.layers}", sides)
        figures.append(summarise_contest(contest, pairs, records))
    return figures
