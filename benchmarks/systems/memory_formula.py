"""Formula for the memory that training a reward model needs on each GPU. `sizing.py` tabulates and checks it."""

from typing import Literal, NamedTuple

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, LlamaConfig, PretrainedConfig

from rmkit.models.reward_model import find_head

Stage = Literal[0, 1, 2, 3]
Precision = Literal["bf16", "fp32"]
ADAM = 8  # bytes per trained parameter: two moments in fp32
SUB_GROUP = 10**9  # trained parameters that stage 3 updates together: DeepSpeed's sub_group_size
LIVE = 10**9  # parameters that stage 3 holds unsharded at one time: DeepSpeed's stage3_max_live_parameters
PAIRS, LENGTH = 4, 1024  # per_device_train_batch_size of recipes/hh.yaml; tokens of each prompt with a response
MODELS = {  # Llama-2-7b and Llama-3.1-70B
    "7B": LlamaConfig(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
                      num_attention_heads=32, num_key_value_heads=32, num_labels=1),
    "70B": LlamaConfig(vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                       num_attention_heads=64, num_key_value_heads=8, num_labels=1),
}


class Training(NamedTuple):
    """Settings of a training run; `offload` keeps the optimizer's state in host memory."""

    stage: Stage
    offload: bool = False
    lora_rank: int | None = None
    precision: Precision = "bf16"

    def __str__(self) -> str:
        lora = f"LoRA {self.lora_rank}, " if self.lora_rank else ""
        return f"{lora}ZeRO-{self.stage}{', offload' if self.offload else ''}"


class Size(NamedTuple):
    """Sizes of a reward model; `parameters` includes the scalar head and no language-model head."""

    parameters: int
    trained: int
    hidden: int
    layers: int
    intermediate: int


class Memory(NamedTuple):
    """Bytes of one process by purpose, all on the GPU except `host`.

    gradients: held between the backward passes of a batch. optimizer: Adam's moments and the fp32 weights. step:
    gradients and their fp32 copy during the optimizer step, instead of `gradients`. buffers: communication, and at
    stage 3 the weights that are gathered.
    """

    weights: float
    gradients: float
    optimizer: float
    step: float
    buffers: float
    activations: float
    host: float

    @property
    def peak(self) -> float:
        """The maximum on the GPU, in the backward pass or in the optimizer step."""
        return self.weights + self.optimizer + max(self.gradients + self.buffers + self.activations, self.step)


def measure_size(config: PretrainedConfig, lora_rank: int | None = None) -> Size:
    """The sizes of the reward model with this configuration, from the model on the meta device."""
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = parameters
    if lora_rank:
        head = find_head(model)
        linear = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
        adapters = sum(lora_rank * (module.in_features + module.out_features) for module in linear)
        trained, parameters = adapters + head.weight.numel(), parameters + adapters
    text = config.get_text_config()
    return Size(parameters, trained, text.hidden_size, text.num_hidden_layers, text.intermediate_size)


def estimate_memory(size: Size, training: Training, processes: int, pairs: int = PAIRS, length: int = LENGTH) -> Memory:
    """Memory of mixed-precision training with Adam under ZeRO, in bytes on each of N = `processes` GPUs.

    P parameters, T of them trained; w = 2 (bf16) or 4 (fp32) bytes per weight; m bytes for the fp32 copy of a trained
    weight and c for that of its gradient (4 each; 0 at stage 0 in fp32, which has no copies):

        stage        0          1            2            3
        weights      w P        w P          w P          w P / N
        gradients    w T        w T          w T / N      w T / N
        optimizer    (8 + m) T  (8 + m) T / N at stages 1 to 3
        step         (w + c) T  (w + c) T / N at stages 1 and 2; w T / N + c min(T / N, 1e9) at stage 3
        buffers      0          w hidden**2  w hidden**2  w (hidden**2 + min(P, 1e9))

    Weights, gradients and optimizer are those of the ZeRO paper (arXiv 1910.02054, section 3 and table 1, K = 12);
    `step` and `buffers` are DeepSpeed's, with "auto" bucket sizes. Optimizer offload leaves weights and buffers on the
    GPU and puts (8 + m + c + w) T / N per process, at stage 2 another w T / N, into host memory. With LoRA, `step` is
    slightly too high: DeepSpeed frees the bf16 gradients of a single parameter group before the step.

    Activations in bf16 with activation checkpointing, for 2 `pairs` rows of `length` tokens, in bytes per token: each
    layer's input, 2 hidden layers, and one layer in its backward pass, 27 hidden + 12 intermediate (Llama with
    scaled-dot-product attention and a mask, measured on a CPU).
    """
    stage, sharded = training.stage, training.stage > 0
    width = 2 if training.precision == "bf16" else 4
    copy = 0 if not sharded and training.precision == "fp32" else 4
    share = size.trained / (processes if sharded else 1)
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
