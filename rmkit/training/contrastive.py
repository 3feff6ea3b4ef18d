"""The contrastive loss: SimCSE or SwAV between two dropout views of every response, both in one forward."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from rmkit.core.seeds import derive_seed
from rmkit.losses import CONTRASTIVE_LOSSES, preference_embeddings
from rmkit.models.reward_model import find_head

N_VIEWS = 2


@dataclass(frozen=True)
class ContrastiveConfig:
    """A contrastive loss with its settings in arXiv 2401.06080, Appendix B.2 (temperatures: of the original codes).

    The paper gives one beta for "the SimCSE method", presumably for pairs and differences alike.
    SwAV's code keeps the prototypes fixed for its first 313 steps; here they are trained from the first, since an
    epoch of preference pairs may have no more steps than that.
    """

    loss: Literal["simcse", "swav"]
    embeddings: Literal["pair", "difference"]
    beta: float
    temperature: float
    prototypes: int = 0


VARIANTS = {
    "simcse": ContrastiveConfig("simcse", "pair", beta=1.0, temperature=0.05),
    "simcse_difference": ContrastiveConfig("simcse", "difference", beta=1.0, temperature=0.05),
    "swav": ContrastiveConfig("swav", "pair", beta=0.1, temperature=0.1, prototypes=50),
    "swav_difference": ContrastiveConfig("swav", "difference", beta=0.5, temperature=0.1, prototypes=20),
}


class Prototypes(nn.Module):
    """SwAV's prototypes, [prototype, hidden]; a module, so that ZeRO-3 gathers them when called."""

    def __init__(self, count: int, hidden: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(derive_seed(seed, "prototypes"))
        self.weight = nn.Parameter(normalize(torch.randn(count, hidden, generator=generator)))

    def forward(self) -> Tensor:
        """The prototypes; the loss brings them to unit length."""
        return self.weight


class ContrastiveObjective:
    """Dropout at rate `rate` in (0, 1) on `model`'s embeddings and head input, and the loss between the two views.

    Recent models have no dropout on their hidden states, so both views would be the same without it. A response's
    embedding is the head's input: the final hidden state of its last token (or an encoder's pooled output). Where
    dropout is applied and the choice of this layer are ours; arXiv 2401.06080 states the rate only. Active while the
    model trains.
    """

    def __init__(self, model: nn.Module, variant: ContrastiveConfig, *, rate: float, seed: int) -> None:
        self.variant = variant
        self.rate = rate
        self.states: Tensor | None = None
        self.prototypes: Tensor | None = None
        self.model = model
        head = find_head(model)
        if variant.prototypes:
            # A part of the model, for the optimizer and DeepSpeed; saved beside the standard checkpoint.
            # In the model's type: ZeRO-3, which has partitioned the model already, requires a single one.
            prototypes = Prototypes(variant.prototypes, head.in_features, seed).to(head.weight.dtype)
            model.add_module("prototypes", prototypes)
        model.get_input_embeddings().register_forward_hook(self.drop_embeddings)  # type: ignore[operator]
        head.register_forward_pre_hook(self.drop_head_input)

    def drop_embeddings(self, module: nn.Module, _: Any, output: Tensor) -> Tensor:
        """Dropout on the token embeddings."""
        return dropout(output, self.rate, training=module.training)

    def drop_head_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Dropout on the head's input, [row, token, hidden] or [response, hidden], kept for `loss`."""
        if not module.training:
            return inputs
        self.states = dropout(inputs[0], self.rate)
        if self.variant.prototypes:
            # Within the forward, where DeepSpeed gathers and tracks the parameters in use.
            self.prototypes = self.model.get_submodule("prototypes")()
        return (self.states, *inputs[1:])

    def loss(self, attention_mask: Tensor | None) -> Tensor:
        """beta times the contrastive loss of the last forward, whose responses are [view, (chosen, rejected), pair].

        `attention_mask` marks where the rows of a padded batch end.
        """
        assert self.states is not None
        states, self.states = self.states, None
        if states.ndim == 3:
            assert attention_mask is not None
            positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
            last = (attention_mask * positions).argmax(dim=1)
            states = states[torch.arange(len(states), device=states.device), last]
        sides = states.unflatten(0, (N_VIEWS, 2, -1))  # [view, (chosen, rejected), pair, hidden]
        first, second = (preference_embeddings(chosen, rejected, self.variant.embeddings) for chosen, rejected in sides)
        extra = {"prototypes": self.prototypes} if self.variant.prototypes else {}
        value = CONTRASTIVE_LOSSES[self.variant.loss](first, second, temperature=self.variant.temperature, **extra)
        return self.variant.beta * value.float()
