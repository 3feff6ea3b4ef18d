"""Memory that training holds on a CPU, measured, beside the formula's prediction.

States: rmkit trains a tiny Llama under DeepSpeed, and each rank adds up the storage of all live tensors, between two
backward passes of a batch and in the optimizer step. `compare_states` starts the ranks as
`python -m benchmarks.systems.held_bytes FOLDER CASES`. Activations: torch's profiler follows the allocations of a
forward and a backward pass.
"""

import gc
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from benchmarks.systems.memory_formula import Training, estimate_memory, measure_size
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.models.tiny import build_language_model, build_tokenizer
from rmkit.training.distributed import launch, wait_for_ranks
from rmkit.training.lora import add_lora
from rmkit.training.reward_trainer import RewardConfig, RewardTrainer
from rmkit.training.zero import deepspeed_environment, default_config, destroy_process_group

SEED = 0
HIDDEN, LAYERS = 128, 8
CASES = (
    *(Training(stage, precision=precision) for precision in ("bf16", "fp32") for stage in (3, 0, 1, 2)),
    Training(2, offload=True), Training(3, offload=True), Training(2, lora_rank=8),
)
PAIRS, LENGTH = 2, 128  # of the activations
# hidden, layers, intermediate, query heads, key heads
SHAPES = ((512, 2, 1408, 8, 8), (512, 6, 1408, 8, 2), (512, 2, 1024, 8, 8), (512, 2, 1792, 8, 2))
ROW = {
    "prompt": [{"role": "user", "content": "what"}],
    "chosen": [{"role": "assistant", "content": "a good thing"}],
    "rejected": [{"role": "assistant", "content": "a bad thing"}],
}


def count_bytes() -> int:
    """Bytes of storage of all live tensors that were created after `gc.freeze`."""
    storages = {}
    for item in gc.get_objects():
        if issubclass(type(item), torch.Tensor):
            for tensor in (item, item.grad if item.is_leaf else None):
                if tensor is not None:
                    storage = tensor.untyped_storage()
                    storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


class CountBytes(TrainerCallback):
    """The largest counts in the second step, after the first has created the optimizer's state."""

    def __init__(self) -> None:
        self.held = {"accumulating": 0, "stepping": 0}
        self.trainer: Any = None

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count in each call of the optimizer from the second step on."""
        if state.global_step == 1:
            optimizer = self.trainer.model_wrapped.basic_optimizer
            optimizer.register_step_pre_hook(lambda *_: self.count("stepping"))

    def on_substep_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count after a backward pass that is not the last of its batch."""
        if state.global_step == 1:
            self.count("accumulating")

    def count(self, moment: str) -> None:
        """Count, and keep the maximum."""
        self.held[moment] = max(self.held[moment], count_bytes())


def train_and_count(base: Path, training: Training) -> dict[str, int]:
    """Bytes that this rank holds while it trains the model at `base` for two steps of two backward passes."""
    gc.collect()
    gc.freeze()
    zero = default_config(training.stage)
    if training.offload:
        zero["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    arguments = RewardConfig(
        output_dir=str(base), deepspeed=zero, use_cpu=True, bf16=training.precision == "bf16", max_length=64,
        max_steps=2, per_device_train_batch_size=1, gradient_accumulation_steps=2, save_strategy="no",
        disable_tqdm=True, seed=SEED,
    )
    tokenizer = load_tokenizer(base)
    model = load_reward_model(base, tokenizer, seed=SEED)
    if training.lora_rank:
        model = add_lora(model, rank=training.lora_rank, alpha=16, dropout=0.0)
    counter = CountBytes()
    counter.trainer = RewardTrainer(
        model, arguments, processing_class=tokenizer, train_dataset=Dataset.from_list([ROW] * 8), callbacks=[counter]
    )
    counter.trainer.train()
    return counter.held


def compare_states(work: Path, processes: int, cases: Sequence[Training] = CASES) -> list[dict[str, Any]]:
    """Bytes held by the rank that holds most, and bytes predicted, for each case and moment.

    On a CPU, GPU and host memory are the same.
    """
    base = work / "base"
    tokenizer = build_tokenizer([json.dumps(ROW)], vocabulary=300)
    tokenizer.save_pretrained(base)
    build_language_model(tokenizer, hidden=HIDDEN, layers=LAYERS, seed=SEED).save_pretrained(base)
    launch([__name__, str(work), json.dumps(cases)], num_processes=processes)
    ranks = [json.loads((work / f"rank-{rank}.json").read_text()) for rank in range(processes)]
    config = AutoConfig.from_pretrained(base, num_labels=1)
    rows = []
    for number, case in enumerate(cases):
        memory = estimate_memory(measure_size(config, case.lora_rank), case, processes)
        kept = memory.weights + memory.optimizer + memory.host
        for moment, predicted in (("accumulating", kept + memory.gradients), ("stepping", kept + memory.step)):
            held = max(rank[number][moment] for rank in ranks)
            rows.append({"training": str(case), "precision": case.precision, "processes": processes, "moment": moment,
                         "held": held, "predicted": round(predicted), "ratio": round(predicted / held, 4)})
    return rows


def compare_activations() -> list[dict[str, Any]]:
    """Bytes of activations at the peak of a training step, measured and predicted."""
    rows = []
    for hidden, layers, intermediate, heads, key_heads in SHAPES:
        config = LlamaConfig(
            vocab_size=100, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=key_heads, num_labels=1, pad_token_id=0)
        held = measure_activations(config)
        predicted = estimate_memory(measure_size(config), Training(0), 1, PAIRS, LENGTH).activations
        rows.append({"held": held, "predicted": predicted, "ratio": round(predicted / held, 4)})
    return rows


def measure_activations(config: LlamaConfig) -> int:
    """The peak of bytes allocated by a training step with activation checkpointing, without the gradients."""
    torch.manual_seed(SEED)
    model = LlamaForSequenceClassification(config).to(torch.bfloat16)
    model.activation_checkpointing_enable()
    tokens = torch.randint(1, config.vocab_size, (2 * PAIRS, LENGTH))
    tokens[0, -5:] = config.pad_token_id

    def step() -> None:
        model(input_ids=tokens, attention_mask=(tokens != config.pad_token_id).long()).logits.sum().backward()

    step()  # allocates the gradients
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.NamedTemporaryFile(suffix=".json") as trace:
        profiler.export_chrome_trace(trace.name)
        events = json.loads(Path(trace.name).read_text())["traceEvents"]
    return max(event["args"]["Total Allocated"] for event in events if event["name"] == "[memory]")


def main() -> None:
    """Count on this rank and write the counts to FOLDER/rank-RANK.json."""
    work = Path(sys.argv[1])
    with deepspeed_environment():
        held = [train_and_count(work / "base", Training(*case)) for case in json.loads(sys.argv[2])]
        wait_for_ranks()  # a rank that exits early could abort the others
        destroy_process_group()
    (work / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main()
