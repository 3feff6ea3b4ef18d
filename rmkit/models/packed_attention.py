"""Packed rows for causal reward models: the rewards and gradients of a padded batch without padding tokens.

Only attention depends on the packing: a function registered with transformers computes it segment by segment.
Embeddings, projections, MLPs and norms process the row as one sequence. The model's code and its checkpoint are
unchanged.
"""

import contextlib
import inspect
from collections.abc import Iterator
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.collators import Segments

try:
    from torch.nn.attention.varlen import varlen_attn

    VARLEN = "window_size" in inspect.signature(varlen_attn).parameters
except ImportError:  # an older torch
    VARLEN = False

ATTENTION = "rmkit_packed"
# Causal models with rotary positions and plain attention in every layer; tests compare each with a padded batch.
PACKED_MODELS = ("gemma", "gemma3_text", "llama", "mistral", "mixtral", "olmo2", "phi3", "qwen2", "qwen3", "qwen3_moe",
                 "smollm3", "starcoder2")


class PackingPlan:
    """Attention over a packed row. One plan serves all layers of a forward, and their recomputation."""

    def __init__(self, segments: Segments) -> None:
        self.segments = segments
        self.masks: list[Tensor | None] = []
        self.varlen: tuple[Tensor, dict[str, Any]] | None = None

    def attend_sdpa(self, query: Tensor, key: Tensor, value: Tensor, *, final: bool, **settings: Any) -> Tensor:
        """[1, head, token, dim] each, to [1, token, head, dim]: one call of SDPA per segment.

        A segment's queries attend to the prefix of their group and causally to their own segment. The row is split, not
        sliced, because the gradient of a split is one concatenation, that of each slice as long as the row. Of the
        `final` layer only the segments' last tokens are used; the outputs of the others are 0.
        """
        lengths, prefixes = self.segments.lengths, self.segments.prefixes
        if not self.masks:
            self.masks = [
                build_branch_mask(length, prefix, query) if prefix else None
                for length, prefix in zip(lengths, prefixes, strict=True)
            ]
        parts = zip(prefixes, self.masks, *(row.split(lengths, dim=2) for row in (query, key, value)), strict=True)
        outputs = []
        first: tuple[Tensor, Tensor] = (key, value)
        for prefix, mask, queries, keys, values in parts:
            if prefix:
                keys = torch.cat([first[0][:, :, :prefix], keys], dim=2)
                values = torch.cat([first[1][:, :, :prefix], values], dim=2)
            else:
                first = keys, values
            if final:
                output = scaled_dot_product_attention(queries[:, :, -1:], keys, values, **settings)
                output = pad(output, (0, 0, queries.shape[2] - 1, 0))
            else:
                output = scaled_dot_product_attention(queries, keys, values, mask, is_causal=not prefix, **settings)
            outputs.append(output.transpose(1, 2))
        return torch.cat(outputs, dim=1)

    def attend_varlen(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """The same by one call of torch's variable-length attention, whose causal mask is aligned at the last key."""
        if self.varlen is None:
            self.varlen = varlen_keys(self.segments, query.device)
        positions, lengths = self.varlen
        query, key, value = (row[0].transpose(0, 1) for row in (query, key, value))
        output = varlen_attn(query, key[positions], value[positions], scale=scale, window_size=(-1, 0), **lengths)
        assert isinstance(output, Tensor)
        return output[None]


def build_branch_mask(length: int, prefix: int, query: Tensor) -> Tensor:
    """[length, prefix + length], added to the scores: 0 for the whole prefix and causally for itself, else -inf."""
    mask = torch.full((length, prefix + length), -torch.inf, dtype=query.dtype, device=query.device)
    return mask.triu(prefix + 1)


def varlen_keys(segments: Segments, device: torch.device) -> tuple[Tensor, dict[str, Any]]:
    """The positions of the keys of all segments in order, and the arguments of `varlen_attn` with their lengths."""
    positions, start, first = [], 0, 0
    for length, prefix in zip(segments.lengths, segments.prefixes, strict=True):
        first = first if prefix else start
        positions += [np.arange(first, first + prefix), np.arange(start, start + length)]
        start += length
    counts = np.add(segments.lengths, segments.prefixes)
    bounds = [np.concatenate([[0], np.cumsum(lengths)]) for lengths in (segments.lengths, counts)]
    cu_q, cu_k = (torch.as_tensor(bound, dtype=torch.int32, device=device) for bound in bounds)
    lengths = {"cu_seq_q": cu_q, "cu_seq_k": cu_k, "max_q": max(segments.lengths), "max_k": int(counts.max())}
    return torch.as_tensor(np.concatenate(positions), device=device), lengths


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    plan: PackingPlan | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function of a model's layers: by `plan`, or transformers' SDPA without one.

    In half precision on CUDA by `varlen_attn`, where torch has it; otherwise segment by segment.
    """
    if plan is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(name) is not None:
            raise_input_error(
                "packed attention", f"plain attention, without {name}", Verbatim(type(module).__name__), "Pad instead."
            )
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if VARLEN and query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and not dropout:
        return plan.attend_varlen(query, key, value, scaling), None
    final = module.layer_idx == module.config.num_hidden_layers - 1  # type: ignore[operator, union-attr]
    if query.is_cpu and query.dtype is torch.bfloat16:
        # On a CPU, torch's gradient of attention takes half the time in float32.
        with torch.autocast("cpu", enabled=False):
            rows = (row.float() for row in (query, key, value))
            output = plan.attend_sdpa(*rows, final=final, scale=scaling, dropout_p=dropout)
        return output.to(query.dtype), None
    return plan.attend_sdpa(query, key, value, final=final, scale=scaling, dropout_p=dropout), None


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)  # of padded batches


def forward(
    self: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    segments: Segments | None = None,
    last: Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """A reward model's forward that also takes the output of `pack`: `logits` [sequence, 1], in the order of `last`."""
    if segments is None:
        return type(self).forward(self, input_ids, attention_mask, position_ids, **kwargs)
    assert input_ids is not None
    body = getattr(self, self.base_model_prefix)
    with last_tokens_only(body.layers[-1].mlp, last, input_ids.shape[1]):
        states = body(
            input_ids,
            attention_mask=input_ids.new_ones(1, 1, 1, 1),  # a 4-D mask is used as is, so none is built
            position_ids=position_ids,
            use_cache=False,
            plan=PackingPlan(segments),
        ).last_hidden_state
    return SequenceClassifierOutputWithPast(logits=self.score(states[0, last]))


@contextlib.contextmanager
def last_tokens_only(block: nn.Module, last: Tensor | None, length: int) -> Iterator[None]:
    """Apply the final layer's MLP to the positions `last` of a row of `length` alone: no other output is used.

    Not while gradients are recorded, since a layer recomputed for them would process the whole row.
    """
    if torch.is_grad_enabled():
        yield
        return
    before = block.register_forward_pre_hook(lambda module, states: states[0][:, last])
    after = block.register_forward_hook(
        lambda module, states, output: output.new_zeros(1, length, output.shape[2]).index_copy(1, last, output)
    )
    try:
        yield
    finally:
        before.remove()
        after.remove()


def enable_packing(model: PreTrainedModel) -> None:
    """Make `model`, or the model inside its adapters, accept packed rows besides padded batches."""
    plain = without_adapters(model)
    plain.set_attn_implementation(ATTENTION)
    plain.forward = MethodType(forward, plain)  # not of the class, whose name is in the checkpoint


def packing_unsupported_reason(model: PreTrainedModel, max_length: int) -> str | None:
    """Why `model` cannot take packed sequences of up to `max_length` tokens, or None where it can."""
    plain = without_adapters(model)
    config = plain.config
    if config.model_type not in PACKED_MODELS or not isinstance(plain, GenericForSequenceClassification):
        return f"packing is not known to be exact for {type(plain).__name__}"
    if config._attn_implementation not in ("sdpa", ATTENTION):
        return f"packing needs sdpa attention, the model has {config._attn_implementation}"
    window = getattr(config, "sliding_window", None)
    if window is not None and window < max_length:
        return f"packing needs full attention, the model's window is {window} tokens"
    return None


def without_adapters(model: PreTrainedModel) -> PreTrainedModel:
    """The reward model without the adapters around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
