"""Rewards of responses, in batches of at most `max_tokens_per_batch` tokens, the longest first.

A causal model reads packed rows without padding, in which the responses to a prompt share one copy of it; other models
read padded batches of sequences of similar length. The rewards are the same.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.collators import pack, pad_right
from rmkit.data.memmap import memmap_zeros, to_memmap
from rmkit.data.parquet import PAIR_SIDES, read_column
from rmkit.data.token_batches import MAX_TOKENS, encode_groups, token_batches
from rmkit.models.packed_attention import ATTENTION, enable_packing, packing_unsupported_reason, without_adapters
from rmkit.models.reward_model import eval_mode, load_reward_model, load_tokenizer


def score_pairs_from_path(
    path: str | Path, pairs: Dataset, *, trust_remote_code: bool = False, **settings: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`score_pairs` by the reward model at `path`, on the accelerator where there is one."""
    return score_pairs(*load_scorer(path, trust_remote_code=trust_remote_code), pairs, **settings)


def load_scorer(
    path: str | Path, *, dtype: str = "float32", trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The reward model at `path`, on the accelerator where there is one, and its tokenizer."""
    tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    model = load_reward_model(path, tokenizer, dtype=dtype, trust_remote_code=trust_remote_code)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return model.eval().to(device), tokenizer


def score_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Dataset,
    *,
    max_length: int,
    max_tokens_per_batch: int = MAX_TOKENS,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rewards of the chosen and of the rejected responses, each float64 [pair], in the order of `pairs`.

    Prompts are cut from the left to fit `max_length` tokens. Batching changes rewards by rounding only. Raises
    `InputError` when a reward is not finite, and `ResponseTooLong`, naming the pair, when a response alone exceeds
    `max_length`.
    """
    columns = [name for name in ("id", *PAIR_SIDES) if name in pairs.column_names]
    rewards = score_rows(model, tokenizer, pairs.select_columns(columns), max_length, max_tokens_per_batch)
    return rewards[0::2], rewards[1::2]


def score_responses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    *,
    max_length: int,
    max_tokens_per_batch: int = MAX_TOKENS,
) -> list[NDArray[np.float64]]:
    """Rewards of every row's `responses` (messages each) to its `prompt`: float64 [response] for each row.

    Otherwise as `score_pairs`.
    """
    rewards = score_rows(
        model, tokenizer, rows.select_columns(["prompt", "responses"]), max_length, max_tokens_per_batch
    )
    return np.split(rewards, np.cumsum([len(responses) for responses in rows["responses"]])[:-1])


def score_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    max_length: int,
    max_tokens_per_batch: int,
) -> NDArray[np.float64]:
    """Rewards of all responses to all rows' prompts, concatenated."""
    shared = prefix_sharing_budget(model, max_length, max_tokens_per_batch)
    units = encode_groups(rows, tokenizer, max_length, max_tokens_per_batch=shared)
    return score_units(model, tokenizer, units, max_length=max_length, max_tokens_per_batch=max_tokens_per_batch)


def prefix_sharing_budget(model: PreTrainedModel, max_length: int, max_tokens_per_batch: int) -> int | None:
    """The `max_tokens_per_batch` of `split_into_units` for this model; None where it cannot share prefixes."""
    return None if packing_unsupported_reason(model, max_length) else max_tokens_per_batch


@torch.inference_mode()
def score_units(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    units: Dataset,
    *,
    max_length: int,
    max_tokens_per_batch: int = MAX_TOKENS,
) -> NDArray[np.float64]:
    """Rewards of all sequences in the units of `split_into_units`, float64 [sequence]; the model is left unchanged.

    Raises `InputError` when a reward is not finite.
    """
    padded = prefix_sharing_budget(model, max_length, max_tokens_per_batch) is None
    sizes = read_column(units, "tokens", np.int32)
    ends = to_memmap(np.cumsum(read_column(units, "sequences", np.int32), dtype=np.int64))
    order = to_memmap(np.argsort(-sizes, kind="stable").astype(np.int32))  # longest first: it fails early
    rewards = memmap_zeros((int(ends[-1]) if len(ends) else 0,), np.float64)
    attention = contextlib.nullcontext() if padded else packing(model)
    with eval_mode(model), attention, tqdm(total=len(rewards), desc="Scoring", unit="response") as bar:
        for batch in token_batches(sizes[order], max_tokens_per_batch, padded=padded):
            indices = order[batch]
            groups = units[indices]["input_ids"]
            sequences = [sequence for group in groups for sequence in group]
            tokens = pad_right(sequences, tokenizer) if padded else pack(groups)
            on_device = {name: part.to(model.device) if isinstance(part, torch.Tensor) else part
                         for name, part in tokens.items()}
            values = model(**on_device).logits[:, 0].double().cpu().numpy()
            broken = int(np.count_nonzero(~np.isfinite(values)))
            if broken:
                got = Verbatim(f"{broken} of {len(values)} responses without")
                raise_input_error("rewards", "finite numbers", got, "Check the weights.")
            for index, group in zip(indices, groups, strict=True):
                rewards[ends[index] - len(group):ends[index]], values = values[:len(group)], values[len(group):]
            bar.update(len(sequences))
    return rewards


@contextlib.contextmanager
def packing(model: PreTrainedModel) -> Iterator[None]:
    """The model ready for packed rows; its attention and its forward are restored afterwards."""
    plain = without_adapters(model)
    attention = plain.config._attn_implementation
    if attention == ATTENTION:
        yield
        return
    own_forward = {name: value for name, value in vars(plain).items() if name == "forward"}
    try:
        enable_packing(model)
        yield
    finally:
        plain.set_attn_implementation(attention)
        del plain.forward
        vars(plain).update(own_forward)
