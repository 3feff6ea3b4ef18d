"""How much memory a training needs on each GPU: a formula, checked against DeepSpeed's own and against what is held.

    python benchmarks/sizing.py                       # measure, compare, write benchmarks/results/sizing.json
    python benchmarks/sizing.py --model_name_or_path MODEL     # print the table of a model of your own

Bytes are summed up in GiB (2**30). The measurement trains a tiny model on the CPU with one and with two processes.
"""

import argparse
import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, LlamaConfig, PretrainedConfig

from rmkit.models.reward_model import find_head

Stage = Literal[0, 1, 2, 3]
Precision = Literal["bf16", "fp32"]
GIB = 2**30
ADAM = 8  # bytes per trained parameter: two moments in fp32
SUB_GROUP = 10**9  # trained parameters that stage 3 updates at once: DeepSpeed's sub_group_size
LIVE = 10**9  # parameters that stage 3 holds whole at once: DeepSpeed's stage3_max_live_parameters
PAIRS, LENGTH = 4, 1024  # on one GPU at once, as in recipes/hh.yaml; tokens of each response with its prompt
GPUS = (1, 8, 16, 32, 64)
CARDS = {"80 GB": 79, "141 GB": 140}  # GiB that an H100 and an H200 report
USABLE = 0.9  # of a card; the rest is for CUDA, NCCL and fragmentation
LORA = 16
# The configurations that the hub has under these names, as far as they decide the sizes.
MODELS = {
    "7B": ("meta-llama/Llama-2-7b-hf", LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=32, num_labels=1)),
    "70B": ("meta-llama/Llama-3.1-70B", LlamaConfig(
        vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, num_labels=1)),
}


class Training(NamedTuple):
    """One way of training."""

    stage: Stage
    offload: bool = False  # the optimizer's state in host memory
    lora_rank: int | None = None
    precision: Precision = "bf16"

    def __str__(self) -> str:
        lora = f"LoRA {self.lora_rank}, " if self.lora_rank else ""
        return f"{lora}ZeRO-{self.stage}{', offload' if self.offload else ''}"


TRAININGS = (
    *(Training(stage) for stage in (0, 1, 2, 3)), Training(2, offload=True), Training(3, offload=True),
    Training(2, lora_rank=LORA), Training(3, lora_rank=LORA),
)


class Size(NamedTuple):
    """What the formula must know of a reward model; `parameters` has the scalar head, and no language model's."""

    parameters: int
    trained: int
    hidden: int
    layers: int
    intermediate: int


class Memory(NamedTuple):
    """Bytes that one process holds, by what they are for; all on the GPU but `host`."""

    weights: float
    gradients: float  # from one backward pass to the next, while a batch is accumulated
    optimizer: float  # Adam's moments and the fp32 copy of the weights
    step: float  # gradients and their fp32 copy while the optimizer steps, in the place of `gradients`
    buffers: float  # of communication, and at stage 3 of weights that are whole for the moment
    activations: float
    host: float

    @property
    def peak(self) -> float:
        """The most that is held at one time: in the backward pass, or in the optimizer's step."""
        return self.weights + self.optimizer + max(self.gradients + self.buffers + self.activations, self.step)


def measure_size(config: PretrainedConfig, lora_rank: int | None = None) -> Size:
    """The sizes of the reward model with this configuration, taken from the model itself, built without memory."""
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    trained = count
    if lora_rank:
        head = find_head(model)
        linear = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
        adapters = sum(lora_rank * (module.in_features + module.out_features) for module in linear)
        trained, count = adapters + head.weight.numel(), count + adapters
    text = config.get_text_config()
    return Size(count, trained, text.hidden_size, text.num_hidden_layers, text.intermediate_size)


def estimate_memory(size: Size, training: Training, processes: int, pairs: int = PAIRS, length: int = LENGTH) -> Memory:
    """Memory of mixed-precision training with Adam under ZeRO, in bytes on each of N = `processes` GPUs.

    With P parameters, T of them trained, w = 2 (bf16) or 4 (fp32) bytes for a weight, and with m bytes for the fp32
    copy of a trained weight and c for that of its gradient (4 each; at stage 0 in fp32 there are no copies, 0):

        stage        0          1            2            3
        weights      w P        w P          w P          w P / N
        gradients    w T        w T          w T / N      w T / N
        optimizer    (8 + m) T  (8 + m) T / N at stages 1 to 3
        step         (w + c) T  (w + c) T / N at stages 1 and 2; w T / N + c min(T / N, 1e9) at stage 3
        buffers      0          w hidden**2  w hidden**2  w (hidden**2 + min(P, 1e9))

    Weights, gradients and optimizer are the ZeRO paper's (arXiv 1910.02054, section 3 and table 1, K = 12); `step` and
    `buffers` are DeepSpeed's besides, with "auto" bucket sizes. Optimizer offload leaves weights and buffers on the
    GPU and puts per process (8 + m + c + w) T / N, at stage 2 another w T / N, into host memory. With LoRA the step is
    a little over: DeepSpeed lets go of the gradients in bf16 before it, all being of one parameter group.

    Activations, in bf16 with activation checkpointing, for 2 `pairs` rows of `length` tokens, in bytes per token: each
    layer's input, 2 hidden layers, and one layer in its backward pass, 27 hidden + 12 intermediate (of a Llama, under
    scaled-dot-product attention and a mask; counted on a CPU). A reward model has no logits to speak of.
    """
    stage, sharded = training.stage, training.stage > 0
    width = 2 if training.precision == "bf16" else 4
    copy = 0 if not sharded and training.precision == "fp32" else 4
    parts = processes if sharded else 1
    share = size.trained / parts
    weights = width * size.parameters / (processes if stage == 3 else 1)
    gradients = width * (share if stage >= 2 else size.trained)
    optimizer = (ADAM + copy) * share
    step = width * share + copy * (min(share, SUB_GROUP) if stage == 3 else share)
    buffers = width * (sharded * size.hidden**2 + (stage == 3) * min(size.parameters, LIVE))
    token = 2 * size.hidden * size.layers + 27 * size.hidden + 12 * size.intermediate
    host = 0.0
    if training.offload:
        host = (ADAM + 2 * copy + width * (2 if stage == 2 else 1)) * share
        gradients = optimizer = step = 0.0
    return Memory(weights, gradients, optimizer, step, buffers, 2 * pairs * length * token, host)


def tabulate(config: PretrainedConfig) -> list[dict[str, Any]]:
    """One row per way of training: GiB on each GPU, by the number of GPUs, and in host memory over all machines."""
    rows = []
    for training in TRAININGS:
        size = measure_size(config, training.lora_rank)
        needs = {gpus: estimate_memory(size, training, gpus) for gpus in GPUS}
        rows.append({
            "training": str(training),
            "gib": {str(gpus): round(memory.peak / GIB, 1) for gpus, memory in needs.items()},
            "host_gib": round(needs[1].host / GIB),
        })
    return rows


def format_table(tables: Mapping[str, list[dict[str, Any]]]) -> str:
    """Markdown: bold where the smaller card suffices, struck out where the larger one does not."""
    lines = [f"| GiB on each of so many GPUs | {' | '.join(map(str, GPUS))} |",
             "|---" * (len(GPUS) + 1) + "|"]
    small, large = (USABLE * size for size in CARDS.values())
    for model, rows in tables.items():
        for row in rows:
            cells = [f"**{need:.0f}**" if need <= small else f"{need:.0f}" if need <= large else f"~~{need:.0f}~~"
                     for need in row["gib"].values()]
            lines.append(f"| {model}, {row['training']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def compare_estimator() -> list[dict[str, Any]]:
    """Our weights + optimizer + step on the GPU against DeepSpeed's estimate, for the models of the table.

    Stage 2: the same. Stage 2 with offload: the same. Stage 3: DeepSpeed counts 18 T / N for weights, gradients and
    optimizer, which leaves out the gradients in bf16 (2 T / N), takes the whole fp32 copy of the gradients for one
    held at once, where DeepSpeed makes it by sub-groups of 1e9, and adds 4 bytes for each parameter of the largest
    layer, where we have `buffers`. Stage 3 with offload: the same but for the largest layer.
    """
    second = importlib.import_module("deepspeed.runtime.zero.stage_1_and_2").estimate_zero2_model_states_mem_needs
    third = importlib.import_module("deepspeed.runtime.zero.stage3").estimate_zero3_model_states_mem_needs
    rows = []
    for name, (_, config) in MODELS.items():
        size = measure_size(config)
        largest = config.vocab_size * config.hidden_size
        for training in (training for training in TRAININGS if training.stage >= 2 and not training.lora_rank):
            for nodes in (1, 2, 8):
                settings = {"num_gpus_per_node": 8, "num_nodes": nodes, "cpu_offload": training.offload}
                if training.stage == 2:
                    theirs = second(size.parameters, **settings)[1]
                else:
                    theirs = third(size.parameters, largest, cpu_offload_params=False, **settings)[1]
                ours = estimate_memory(size, training, 8 * nodes)
                share = size.parameters / (8 * nodes)
                rows.append({
                    "model": name, "training": str(training), "gpus": 8 * nodes,
                    "ours": ours.weights + ours.optimizer + ours.step, "deepspeed": theirs,
                    "largest_layer": 4 * largest if training.stage == 3 else 0,
                    "gradients_left_out": 2 * share if training.stage == 3 and not training.offload else 0,
                    "gradients_by_sub_groups": 4 * max(0, share - SUB_GROUP) if training == Training(3) else 0,
                })
    return rows


def main() -> None:
    """Print one model's table, or measure, compare and write benchmarks/results/sizing.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", help="a model's folder or hub name; nothing is measured or written")
    options = parser.parse_args()
    if options.model_name_or_path:
        config = AutoConfig.from_pretrained(options.model_name_or_path, num_labels=1)
        print(format_table({Path(options.model_name_or_path).name: tabulate(config)}))
        return
    from held_bytes import SEED, compare_activations, compare_states
    from results import write_results

    with tempfile.TemporaryDirectory() as work:
        states = [row for processes in (1, 2) for row in compare_states(Path(work), processes)]
    print(write_results("sizing", {
        "pairs": PAIRS, "length": LENGTH, "cards_gib": CARDS, "usable": USABLE,
        "models": {name: {"configuration": hub, **measure_size(config)._asdict()}
                   for name, (hub, config) in MODELS.items()},
        "tables": {name: tabulate(config) for name, (_, config) in MODELS.items()},
        "estimator": compare_estimator(),
        "states": states,
        "activations": compare_activations(),
    }, seeds=[SEED]))


if __name__ == "__main__":
    main()
