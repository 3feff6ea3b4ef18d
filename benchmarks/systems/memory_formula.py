"""How much memory a training needs on each GPU: the formula. benchmarks/systems/sizing.py measures and tabulates."""

from typing import Literal, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from rmkit.models.reward_model import find_head

Stage = Literal[0, 1, 2, 3]
Precision = Literal["bf16", "fp32"]
ADAM = 8  # bytes per trained parameter: two moments in fp32
SUB_GROUP = 10**9  # trained parameters that stage 3 updates at once: DeepSpeed's sub_group_size
LIVE = 10**9  # parameters that stage 3 holds whole at once: DeepSpeed's stage3_max_live_parameters
PAIRS, LENGTH = 4, 1024  # on one GPU at once, as in recipes/hh.yaml; tokens of each response with its prompt


class Training(NamedTuple):
    """One way of training."""

    stage: Stage
    offload: bool = False  # the optimizer's state in host memory
    lora_rank: int | None = None
    precision: Precision = "bf16"

    def __str__(self) -> str:
        lora = f"LoRA {self.lora_rank}, " if self.lora_rank else ""
        return f"{lora}ZeRO-{self.stage}{', offload' if self.offload else ''}"


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
