"""Weight perturbation: trainable parameters moved along a gradient, in float32 whatever the model's type, and back."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

CHUNK = 2**24  # entries of a parameter rounded at once
LOW_BITS = 2**16  # values of the bits that float32 has beyond bfloat16


class ParameterView(Protocol):
    """What this process holds of a model's trainable parameters, for one perturbation."""

    def forward(self, **tokens: Any) -> Any:
        """The model's outputs, differentiable."""

    def accumulate_gradient(self, value: Tensor) -> None:
        """Add the gradient of `value` to the perturbation's, and nothing to that of the optimizer's next step."""

    def values_and_gradients(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The tensors that this process holds, each with its gradient, the mean over processes."""

    def update_model(self) -> None:
        """Make the model use what was written into the tensors of `values_and_gradients`."""

    def release(self) -> None:
        """Drop all other copies of the parameters' values. Does not communicate."""


class FullParameters:
    """All trainable parameters in full on every process: plain torch, and DeepSpeed's stages 0 to 2.

    The gradient comes from `torch.autograd.grad`, so no engine's hook sees it, and no `.grad` changes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.gradients: list[Tensor | None] = [None] * len(self.parameters)

    def forward(self, **tokens: Any) -> Any:
        return self.model(**tokens)

    def accumulate_gradient(self, value: Tensor) -> None:
        new_gradients = torch.autograd.grad(value, self.parameters, allow_unused=True)
        for index, (before, more) in enumerate(zip(self.gradients, new_gradients, strict=True)):
            if before is not None and more is not None:
                more = before.float().add_(more) if before.dtype is torch.bfloat16 else before.add_(more)
            self.gradients[index] = before if more is None else more

    def values_and_gradients(self) -> Iterator[tuple[Tensor, Tensor]]:
        processes = dist.get_world_size() if dist.is_initialized() else 1
        for index, parameter in enumerate(self.parameters):
            gradient, self.gradients[index] = self.gradients[index], None  # freed as soon as it was used
            if gradient is None:  # unused on this process; another may have used it, and waits in all_reduce
                gradient = torch.zeros_like(parameter)
            if gradient.dtype is torch.bfloat16:
                gradient = gradient.float()
            if processes > 1:
                dist.all_reduce(gradient)
                gradient /= processes
            yield parameter.data, gradient

    def update_model(self) -> None:
        pass

    def release(self) -> None:
        pass


class WeightPerturbation:
    """theta' = theta + rate * gradient, and back to theta exactly.

    In bfloat16 a usual step is smaller than the rounding error, and theta' would be theta. There every entry is
    rounded up or down at random, such that the expected theta' is theta + rate * gradient, with theta in bfloat16:
    few entries change, by one unit in the last place.
    """

    def __init__(self) -> None:
        self.saved: list[tuple[Tensor, Tensor]] = []
        self.view: ParameterView | None = None

    def apply(
        self, view: ParameterView, rate: float, *, generator: torch.Generator, autocast: bool = False
    ) -> tuple[bool, bool]:
        """Move the parameters of `view`; whether any process has a gradient, and whether any entry changed.

        `generator`, on the model's device, rounds bfloat16 parameters and, with `autocast`, all, since the model
        computes in bfloat16. The parameters are copied first, in their own type: the only memory that a perturbation
        needs beside its gradient.
        """
        self.view = view
        has_gradient = has_changed = False
        for values, gradient in view.values_and_gradients():
            before = values.clone()
            self.saved.append((values, before))
            if autocast or values.dtype is torch.bfloat16:
                stochastic_add_(values, gradient, rate, generator)
            else:
                values.add_(gradient, alpha=rate)
            if not has_changed:  # checked until one has, since the check costs as much as the step
                has_gradient = has_gradient or bool(gradient.any())
                has_changed = not torch.equal(values, before)
        view.update_model()
        if dist.is_initialized():
            flags = torch.tensor([has_gradient, has_changed], dtype=torch.float32, device=generator.device)
            dist.all_reduce(flags)
            has_gradient, has_changed = flags.gt(0).tolist()
        return has_gradient, has_changed

    def undo(self) -> None:
        """Restore the parameters if they are perturbed. Does not communicate, so it also works after a failure."""
        if self.view is None:
            return
        self.view.release()
        while self.saved:
            values, before = self.saved.pop()
            values.copy_(before)
        self.view = None


def stochastic_add_(values: Tensor, gradient: Tensor, rate: float, generator: torch.Generator) -> None:
    """values += rate * gradient, rounded to bfloat16 at random; entries whose bfloat16 value stays are not changed."""
    values, gradient = torch.atleast_1d(values), torch.atleast_1d(gradient)
    rows = max(1, CHUNK * len(values) // max(1, values.numel()))
    for chunk, chunk_gradient in zip(values.split(rows), gradient.split(rows), strict=True):
        start = chunk.to(torch.bfloat16).float()
        end = stochastic_round(start + rate * chunk_gradient, generator)
        chunk.copy_(torch.where(end == start, chunk, end))


def stochastic_round(values: Tensor, generator: torch.Generator) -> Tensor:
    """float32 rounded up or down to bfloat16 values, with probabilities that make the expectation `values`."""
    noise = torch.randint(0, LOW_BITS, values.shape, dtype=torch.int32, device=generator.device, generator=generator)
    return values.view(torch.int32).add(noise.to(values.device)).bitwise_and(-LOW_BITS).view(torch.float32)
