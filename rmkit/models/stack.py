"""The stack: one frozen backbone that carries the adapters and heads of many reward models, each with rows of its own.

Rows are laid out [member * row]: the weights below are read once for all members, and each adapter is applied to its
own member's rows. What lies below the lowest adapter, the trunk, is the same for all members and is run apart. PEFT
too can serve several adapters in one batch, but not in training, and one after another; here two products serve all.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rmkit.core.checks import Seen, refuse
from rmkit.core.seeds import derive_seed
from rmkit.core.stages import write_json
from rmkit.models.reward import find_head, seeded

LAYERS_PER_ADAPTED = 6  # of so many layers one is adapted, where nothing else is said
EVERY = slice(None)
REMEDY = "Vote with kind heads, or take a model of another family."


class StackedLora(nn.Module):
    """A frozen linear layer with a low-rank adapter per member: base(x) + scale x @ down[member] @ up[member]."""

    def __init__(self, base: nn.Linear, starts: Sequence[torch.Generator], rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        bound = base.in_features**-0.5  # PEFT's start: kaiming_uniform(a=sqrt(5)) below, zero above
        down = [torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=start).T for start in starts]
        self.down = nn.Parameter(torch.stack(down).to(base.weight))
        self.up = nn.Parameter(base.weight.new_zeros(len(starts), rank, base.out_features))
        self.scale = alpha / rank
        self.chosen = EVERY  # the members whose rows come

    def forward(self, states: Tensor) -> Tensor:
        """`states` [member * row, .., in]."""
        down, up = self.down[self.chosen], self.up[self.chosen]
        members, width, _ = down.shape
        if states.shape[0] % members:  # DeBERTa's, which look at positions too
            refuse("model", "linear layers that see the sequences alone", Seen(f"shape {tuple(states.shape)}"), REMEDY)
        outputs: Tensor = self.base(states)
        narrow = states.reshape(members, -1, width) @ down
        flat = outputs.reshape(members, -1, outputs.shape[-1])
        return torch.baddbmm(flat, narrow, up, alpha=self.scale).view_as(outputs)


class StackedLinear(nn.Module):
    """A linear layer of each member's own: x @ weight[member] + bias[member]."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        biases = [layer.bias[None].detach() for layer in layers if layer.bias is not None]
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None
        self.chosen = EVERY

    def forward(self, states: Tensor) -> Tensor:
        """`states` [member * row, .., in]."""
        weight = self.weight[self.chosen]
        members, width, outputs = weight.shape
        result = states.reshape(members, -1, width) @ weight
        if self.bias is not None:
            result = result + self.bias[self.chosen]
        return result.view(*states.shape[:-1], outputs)


class Reached(Exception):
    """Ends a forward at the lowest adapted block, with what came up to it."""

    states: Tensor


class AdapterStack:
    """Adapters of `len(seeds)` members on the top `layers` blocks of a reward model and on what stands behind them.

    Linear layers in the blocks and behind them get adapters of rank `rank`; the head is each member's own, drawn
    under its seed as `load_reward_model` draws it, or the checkpoint's where `model` was a reward model already. All
    else is frozen, and there is no dropout. `layers` is a sixth of the model's, and at least one, where not given.
    `model` is taken apart and belongs to the stack. Raises `InputError` for a model whose blocks are not found (one
    list of them, made of linear layers: not ALBERT, GPT-2), or whose linear layers see more than the sequences
    (DeBERTa), and for more adapted blocks than it has.
    """

    def __init__(
        self, model: PreTrainedModel, seeds: Sequence[int], *, rank: int, alpha: float, layers: int | None = None
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        model.config.get_text_config().use_cache = False
        self.members = len(seeds)
        self.facts = {"r": rank, "lora_alpha": alpha}
        prefix, self.blocks = find_blocks(model)
        count = max(1, len(self.blocks) // LAYERS_PER_ADAPTED) if layers is None else layers
        if not 1 <= count <= len(self.blocks):
            refuse("layers", f"1 to {len(self.blocks)}, the model's blocks", layers, "Adapt some of the top ones.")
        self.first = len(self.blocks) - count
        head = find_head(model)
        self.head_name = next(name for name, module in model.named_modules() if module is head).partition(".")[0]
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        starts = [torch.Generator().manual_seed(derive_seed(seed, "adapters")) for seed in seeds]
        self.adapters: dict[str, StackedLora] = {}
        for name in find_targets(model, names, prefix, self.first, self.head_name):
            self.adapters[name] = StackedLora(model.get_submodule(name), starts, rank, alpha)  # type: ignore[arg-type]
            model.set_submodule(name, self.adapters[name])
        self.head: dict[str, StackedLinear] = {}
        heads = draw_heads(model, self.head_name, seeds)
        for name in names:
            if name.partition(".")[0] == self.head_name:
                inner = name.removeprefix(self.head_name).removeprefix(".")
                self.head[name] = StackedLinear([drawn.get_submodule(inner) for drawn in heads])  # type: ignore[misc]
                model.set_submodule(name, self.head[name])
        self.extra = 0  # what a block gives beside its states, where it gives a tuple

    def parameters(self) -> list[nn.Parameter]:
        """What is trained, every one with the member as its first axis."""
        return [weight for part in (self.adapters, self.head) for layer in part.values()
                for name, weight in layer.named_parameters() if not name.startswith("base.")]

    @torch.no_grad()
    def run_trunk(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """States [row, token, hidden] that come to the lowest adapted block, from tokens [row, token]."""

        def stop(block: nn.Module, inputs: tuple[Any, ...]) -> None:
            reached = Reached()
            reached.states = inputs[0]
            raise reached

        def look(block: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
            self.extra = len(outputs) - 1 if isinstance(outputs, tuple) else 0

        handles = [self.blocks[self.first].register_forward_pre_hook(stop)]
        handles += [block.register_forward_hook(look) for block in self.blocks[max(0, self.first - 1):self.first]]
        try:
            self.model(input_ids=input_ids, attention_mask=attention_mask)
        except Reached as reached:
            return reached.states
        finally:
            for handle in handles:
                handle.remove()
        raise AssertionError("the forward ran past its blocks")

    def run_members(
        self, states: Tensor, input_ids: Tensor, attention_mask: Tensor, members: slice = EVERY
    ) -> Tensor:
        """Rewards [member, row] of some members, from the trunk's states [member * row, token, hidden] and tokens."""
        stacked: list[StackedLora | StackedLinear] = [*self.adapters.values(), *self.head.values()]
        for layer in stacked:
            layer.chosen = members
        with self.entering(states):
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits[:, 0].float().view(len(range(self.members)[members]), -1)

    @contextlib.contextmanager
    def entering(self, states: Tensor) -> Iterator[None]:
        """The blocks below hand on what they get, and the lowest adapted one gets `states`: the top runs alone."""

        def hand_on(inputs: Tensor, *others: Any, **named: Any) -> Any:
            return (inputs, *[None] * self.extra) if self.extra else inputs

        below = self.blocks[:self.first]
        for block in below:
            block.forward = hand_on
        handle = self.blocks[self.first].register_forward_pre_hook(lambda block, inputs: (states, *inputs[1:]))
        try:
            yield
        finally:
            handle.remove()
            for block in below:
                del block.forward

    def save(self, folder: str | Path, base: str | Path) -> None:
        """Each member as a PEFT adapter for the base model at `base`, in folder/0, folder/1, ..."""
        for member in range(self.members):
            place = Path(folder) / str(member)
            place.mkdir(parents=True, exist_ok=True)
            weights = {}
            for name, layer in self.adapters.items():
                weights[f"{name}.lora_A.weight"] = layer.down[member].T
                weights[f"{name}.lora_B.weight"] = layer.up[member].T
            for name, own in self.head.items():
                weights[f"{name}.weight"] = own.weight[member].T
                if own.bias is not None:
                    weights[f"{name}.bias"] = own.bias[member, 0]
            tensors = {f"base_model.model.{name}": value.detach().cpu().contiguous() for name, value in weights.items()}
            safetensors.torch.save_file(tensors, place / "adapter_model.safetensors")
            write_json(place / "adapter_config.json", {
                "peft_type": "LORA",
                "task_type": "SEQ_CLS",
                "base_model_name_or_path": str(base),
                "target_modules": list(self.adapters),
                "modules_to_save": [self.head_name],
                "lora_dropout": 0.0,
                "bias": "none",
                "inference_mode": True,
                **self.facts,
            })


def find_blocks(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The model's layers and the name of their list."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    found = [(name, module) for name, module in model.named_modules()
             if isinstance(module, nn.ModuleList) and len(module) == count]
    if not found or any("Conv1D" in type(module).__name__ for module in found[0][1].modules()):
        refuse("model", "layers in one list, made of linear layers", Seen(type(model).__name__), REMEDY)
    return found[0]


def find_targets(
    model: PreTrainedModel, names: Sequence[str], prefix: str, first: int, head_name: str
) -> list[str]:
    """The linear layers of the adapted blocks, and those that stand behind the blocks and are not the head's."""
    order = [name for name, _ in model.named_modules()]
    behind = order.index(prefix)
    targets = []
    for name in names:
        if name.startswith(f"{prefix}."):
            if int(name.removeprefix(f"{prefix}.").partition(".")[0]) >= first:
                targets.append(name)
        elif order.index(name) > behind and name.partition(".")[0] != head_name:
            targets.append(name)
    return targets


def draw_heads(model: PreTrainedModel, name: str, seeds: Sequence[int]) -> list[nn.Module]:
    """Every member's head: a new one under its seed, or the checkpoint's where that was a reward model."""
    trained = any(kind.endswith("SequenceClassification") for kind in model.config.architectures or ())
    heads = []
    for seed in seeds:
        heads.append(copy.deepcopy(model.get_submodule(name)))
        if not trained:
            with seeded(seed):
                for module in heads[-1].modules():
                    model._init_weights(module)
    return heads
