"""Checks of the losses' inputs, the precision they compute in, and how they reduce.

Checking values costs one reduction per call (on an accelerator: one synchronisation). Only when that fails does a
loss look for the invalid argument.
"""

from functools import reduce as fold
from typing import Literal, NoReturn

import torch
from torch import Tensor

from rmkit.core.checks import Verbatim, raise_input_error

Reduction = Literal["mean", "sum", "none"]


def check_shapes(axes: tuple[str, ...], **tensors: Tensor) -> None:
    """Refuse `tensors` unless all are floating point, have the named axes, agree in shape, and are not empty."""
    first_name, first = next(iter(tensors.items()))
    wanted = f"shape [{', '.join(axes)}]"
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise_input_error(name, "a floating-point tensor", tensor.dtype, f"Convert it with {name}.float().")
        if tensor.ndim != len(axes):
            raise_input_error(
                name, wanted, _shape(tensor), "Squeeze or index the axes that are too many: nothing is broadcast."
            )
        if tensor.shape != first.shape:
            raise_input_error(
                name, f"the shape {_shape(first)} of {first_name}", _shape(tensor), "Give one row for each row."
            )
        if not tensor.numel():
            raise_input_error(name, f"{wanted} with at least one element", _shape(tensor), "Leave out what is empty.")


def check_number(name: str, value: float, *, low: float, below: float = float("inf"), open_low: bool = False) -> None:
    """Refuse a setting outside [low, below), or outside (low, below) with `open_low`."""
    if not (low < value < below if open_low else low <= value < below):
        interval = f"{'(' if open_low else '['}{low}, {below})"
        raise_input_error(name, f"a number in {interval}", value, f"Choose {name} inside this interval.")


def check_divisor(name: str, value: float) -> None:
    """Refuse a setting that is not above 0, or so near it that to divide by it overflows float32."""
    check_number(name, value, low=0.0, open_low=True)
    if 1 / value > torch.finfo(torch.float32).max:
        raise_input_error(name, "a number that float32 can divide by", value, f"Raise {name}.")


def check_count(name: str, value: int) -> None:
    """Refuse a setting that is not a whole number, 1 or more."""
    if not (value >= 1 and value % 1 == 0):
        raise_input_error(name, "a whole number, 1 or more", value, f"Change {name}.")


def to_float32(values: Tensor) -> Tensor:
    """`values` in float32, or in float64 where they came so: the precision all losses compute in."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def to_common_dtype(*tensors: Tensor) -> list[Tensor]:
    """`tensors` in the precision that `to_float32` gives the widest of them."""
    dtype = fold(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return [tensor.to(dtype) for tensor in tensors]


def prepare_inputs(
    gap: Tensor, target: Tensor | float | None, margin: Tensor | float | None, **sources: Tensor
) -> tuple[Tensor, Tensor | None]:
    """(`gap - margin`, `target`), both [pair] in the dtype of `gap`, with every value checked at once.

    `sources` are the tensors that `gap` was computed from; they are read only to name the invalid one.
    """
    logit = gap
    if margin is not None:
        sources["margin"] = _per_pair("margin", margin, gap)
        logit = gap - sources["margin"]
    valid = torch.isfinite(logit)
    if target is not None:
        target = _per_pair("target", target, gap)
        valid = valid & (target >= 0) & (target <= 1)
    if not bool(valid.all()):
        if target is not None:
            check_unit_interval("target", target)
        check_finite(**sources)
    return logit, target


def check_unit_interval(name: str, values: Tensor) -> None:
    """Refuse a tensor with a value outside [0, 1], NaN included."""
    wrong = values[~((values >= 0) & (values <= 1))]
    if wrong.numel():
        seen = Verbatim(f"{wrong.numel()} of {values.numel()} values outside, such as {wrong.flatten()[0].item()!r}")
        raise_input_error(
            name, "probabilities in [0, 1] that chosen is truly preferred", seen, "Clamp or repair them first."
        )


def check_finite(**sources: Tensor) -> NoReturn:
    """Raise for the first of `sources` that holds a NaN or an infinity."""
    hint = "Look for an overflow or a bad row upstream of the loss."
    for name, values in sources.items():
        wrong = ~torch.isfinite(values)
        if wrong.any():
            where = wrong.nonzero()[0].tolist()
            seen = Verbatim(f"{int(wrong.sum())} of {values.numel()} not finite, the first at index {where}")
            raise_input_error(name, "finite numbers", seen, hint)
    raise_input_error(
        " and ".join(sources), "numbers whose differences and norms are finite", Verbatim("an overflow"), hint
    )


def reduce(values: Tensor, reduction: Reduction, dtype: torch.dtype) -> Tensor:
    """The mean, the sum or all of `values`, reduced in their own precision and only then returned in `dtype`."""
    if reduction == "mean":
        return values.mean().to(dtype)
    if reduction == "sum":
        return values.sum().to(dtype)
    if reduction == "none":
        return values.to(dtype)
    raise_input_error("reduction", "'mean', 'sum' or 'none'", reduction, "Choose one of these.")


def _per_pair(name: str, value: Tensor | float, gap: Tensor) -> Tensor:
    values = torch.as_tensor(value, dtype=gap.dtype, device=gap.device)
    if values.ndim and values.shape != gap.shape:
        raise_input_error(name, f"one number, or shape {_shape(gap)}", _shape(values), "Give one value for each pair.")
    return values.expand_as(gap)


def _shape(tensor: Tensor) -> Verbatim:
    return Verbatim(f"{list(tensor.shape)}")
