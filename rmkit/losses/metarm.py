"""MetaRM's difference loss: how well a reward model separates several responses to one prompt."""

import torch
from torch import Tensor

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.losses.validation import Reduction, check_finite, check_shapes, reduce, to_float32


def difference_loss(rewards: Tensor, *, mask: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
    """MetaRM's J per prompt: how well the rewards separate a prompt's responses. MetaRM *ascends* it.

    (2 / k**2) * sum over i < j of sigmoid(|rewards[i] - rewards[j]|), in [(k - 1) / 2k, (k - 1) / k) for k responses.

    The gradient is steepest between close rewards and exactly 0 between equal ones: duplicates only dilute it.

    Args:
        rewards: [prompt, response], reward units.
        mask: [prompt, response] bool, True where a response exists; k is counted per prompt. Rewards where it is
            False are ignored, whatever they hold.
        reduction: "mean" or "sum" over prompts, or "none" for [prompt].

    Raises:
        InputError: on other shapes, an empty batch, a prompt with fewer than two responses, a NaN or an infinity.

    Source: arXiv 2401.06080, Eq. (11), and MetaRM, arXiv 2405.00438. They imply the mean over prompts and have one k
    for all; here `reduction` is explicit and sets may be ragged.
    """
    check_shapes(("prompt", "response"), rewards=rewards)
    if mask is None:
        mask = torch.ones_like(rewards, dtype=torch.bool)
    elif mask.shape != rewards.shape or mask.dtype != torch.bool:
        seen = Verbatim(f"{mask.dtype} of shape {list(mask.shape)}")
        raise_input_error("mask", f"bool of shape {list(rewards.shape)}", seen, "Mark existing responses True.")
    present = to_float32(rewards).masked_fill(~mask, 0.0)
    count = mask.sum(dim=1)
    if not bool((torch.isfinite(present).all(dim=1) & (count >= 2)).all()):
        if bool((count < 2).any()):
            seen = Verbatim(f"{int(count.min())} in row {int(count.argmin())}")
            raise_input_error(
                "rewards", "at least two responses for every prompt", seen, "Drop prompts with nothing to compare."
            )
        check_finite(rewards=present)
    first, second = torch.triu_indices(rewards.shape[1], rewards.shape[1], offset=1, device=rewards.device)
    separation = torch.sigmoid((present[:, first] - present[:, second]).abs()) * (mask[:, first] & mask[:, second])
    return reduce(2 * separation.sum(dim=1) / count.square(), reduction, rewards.dtype)
