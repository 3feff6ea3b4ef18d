"""Ascent: the trainable parameters moved along a gradient, in float32 whatever the model computes in, and back."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

PART = 2**24  # entries of a parameter rounded at once
TAIL = 2**16  # values of what float32 has behind bfloat16


class ParameterView(Protocol):
    """What this process holds of a model's trainable parameters, for one ascent."""

    def forward(self, **tokens: Any) -> Any:
        """The model's outputs, differentiable."""

    def differentiate(self, value: Tensor) -> None:
        """Add the gradient of `value` to the ascent's, and nothing to that of the optimizer's next step."""

    def open(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What this process holds, tensor by tensor, each with its gradient, the mean over processes."""

    def close(self) -> None:
        """Let the model see what was written into the tensors that `open` gave."""

    def release(self) -> None:
        """Forget what other than those tensors holds the parameters' values, without asking another process."""


class FullParameters:
    """All trainable parameters whole on every process: plain torch, and DeepSpeed's stages 0 to 2.

    The gradient is asked of autograd directly: no engine's hook sees it, and no `.grad`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.gradients: list[Tensor | None] = [None] * len(self.parameters)

    def forward(self, **tokens: Any) -> Any:
        return self.model(**tokens)

    def differentiate(self, value: Tensor) -> None:
        found = torch.autograd.grad(value, self.parameters, allow_unused=True)
        for place, (before, more) in enumerate(zip(self.gradients, found, strict=True)):
            if before is not None and more is not None:
                more = before.float().add_(more) if before.dtype is torch.bfloat16 else before.add_(more)
            self.gradients[place] = before if more is None else more

    def open(self) -> Iterator[tuple[Tensor, Tensor]]:
        processes = dist.get_world_size() if dist.is_initialized() else 1
        for place, parameter in enumerate(self.parameters):
            gradient, self.gradients[place] = self.gradients[place], None  # each is let go when the next is due
            if gradient is None:  # on this process: another may have used it, and waits for this one
                gradient = torch.zeros_like(parameter)
            if gradient.dtype is torch.bfloat16:
                gradient = gradient.float()
            if processes > 1:
                dist.all_reduce(gradient)
                gradient /= processes
            yield parameter.data, gradient

    def close(self) -> None:
        pass

    def release(self) -> None:
        pass


class WeightPerturbation:
    """theta' = theta + rate * gradient, and theta again, bit for bit.

    Where the model computes in bfloat16, a step of the usual size is less than rounding takes away, and theta' would
    be theta. There every entry is rounded up or down at random, such that the expected theta' is theta + rate *
    gradient, theta as the model has it in bfloat16: few entries change, by one unit in the last place.
    """

    def __init__(self) -> None:
        self.saved: list[tuple[Tensor, Tensor]] = []
        self.holding: ParameterView | None = None

    def climb(
        self, holding: ParameterView, rate: float, *, generator: torch.Generator, autocast: bool = False
    ) -> tuple[bool, bool]:
        """Move what is held; whether there is a gradient, and whether anything moved, on any process.

        `generator`, on the model's device, rounds what is in bfloat16, and with `autocast` all, since it is computed
        with in bfloat16. What is held is copied first, in its own type: all the memory that an ascent takes beside its
        gradient.
        """
        self.holding = holding
        wanted = moved = False
        for values, gradient in holding.open():
            before = values.clone()
            self.saved.append((values, before))
            if autocast or values.dtype is torch.bfloat16:
                stochastic_add_(values, gradient, rate, generator)
            else:
                values.add_(gradient, alpha=rate)
            if not moved:  # one that moved is enough, and a look costs as much as the step
                wanted = wanted or bool(gradient.any())
                moved = not torch.equal(values, before)
        holding.close()
        if dist.is_initialized():
            found = torch.tensor([wanted, moved], dtype=torch.float32, device=generator.device)
            dist.all_reduce(found)
            wanted, moved = found.gt(0).tolist()
        return wanted, moved

    def restore(self) -> None:
        """Undo the ascent, if there is one to undo. Asks no other process, so that it serves after a failure too."""
        if self.holding is None:
            return
        self.holding.release()
        while self.saved:
            values, before = self.saved.pop()
            values.copy_(before)
        self.holding = None


def stochastic_add_(values: Tensor, gradient: Tensor, rate: float, generator: torch.Generator) -> None:
    """values += rate * gradient for a model that computes in bfloat16; what does not change there is left as it is."""
    values, gradient = torch.atleast_1d(values), torch.atleast_1d(gradient)
    rows = max(1, PART * len(values) // max(1, values.numel()))
    for part, its_gradient in zip(values.split(rows), gradient.split(rows), strict=True):
        start = part.to(torch.bfloat16).float()
        end = stochastic_round(start + rate * its_gradient, generator)
        part.copy_(torch.where(end == start, part, end))


def stochastic_round(values: Tensor, generator: torch.Generator) -> Tensor:
    """float32 rounded to what bfloat16 has, up or down with the probabilities that make the expectation `values`."""
    noise = torch.randint(0, TAIL, values.shape, dtype=torch.int32, device=generator.device, generator=generator)
    return values.view(torch.int32).add(noise.to(values.device)).bitwise_and(-TAIL).view(torch.float32)
