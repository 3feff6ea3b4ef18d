"""Frozen features of responses: pooled hidden states of a backbone, computed once and cached on disk."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import input_hash, sha256_text, write_json
from rmkit.data.collators import pad_right
from rmkit.data.memmap import preallocate
from rmkit.data.parquet import PAIR_SIDES, stream_rows
from rmkit.data.token_batches import MAX_TOKENS, token_batches
from rmkit.ensembles.conversations import UniqueConversations
from rmkit.models.reward_model import check_positions, enlarge_embeddings, load_pretrained, load_tokenizer

CAUSAL = ("ForCausalLM", "LMHeadModel")  # suffixes of causal language models' class names


class Features(NamedTuple):
    """Features of the two sides of each pair, [pair, feature] float32 and read-only, mapped from disk if cached."""

    chosen: NDArray[np.float32]
    rejected: NDArray[np.float32]


def extract_features(
    pairs: Dataset,
    model_path: str | Path,
    *,
    max_length: int = 512,
    max_tokens_per_batch: int = MAX_TOKENS,
    cache_dir: str | Path | None = None,
    trust_remote_code: bool = False,
) -> Features:
    """Features of prompt + response from the frozen backbone at `model_path`, an encoder or a causal model.

    Features are the means of the response's hidden states in two layers (`pool_means`) and, for a causal language
    model, states weighted by excess surprise (`pool_surprise`). `pairs` has `id`, `prompt`, `chosen`, `rejected`.
    Prompts are cut from the left to fit `max_length` tokens. Batches have at most `max_tokens_per_batch` tokens,
    padding included, or one conversation; one that several pairs share is read once. With `cache_dir`, the result is
    cached there under a key of the backbone, the texts and `max_length`, and later calls map it from disk.

    Raises `InputError` when there is no such backbone, for an encoder-decoder, for a response that does not fit
    (`ResponseTooLong`) or is longer than the backbone has positions, and for features that are not finite.
    """
    if not len(pairs):
        raise_input_error("pairs", "at least one pair", Verbatim("none"), "Check what was read.")
    path = None if cache_dir is None else Path(cache_dir) / f"features-{cache_key(pairs, model_path, max_length)}.npy"
    if path is not None and path.exists():
        return split_sides(np.load(path, mmap_mode="r"))
    tokenizer = load_tokenizer(model_path, trust_remote_code=trust_remote_code)
    conversations = UniqueConversations(pairs, tokenizer, max_length)
    backbone = load_backbone(model_path, tokenizer, trust_remote_code=trust_remote_code)
    check_positions(backbone, conversations.longest)
    batches = pool_batches(backbone, tokenizer, conversations, max_tokens_per_batch)
    if path is None:
        return split_sides(fill_table(None, len(pairs), conversations, batches))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    fill_table(partial, len(pairs), conversations, batches)
    facts = {"backbone": str(model_path), "pairs": len(pairs), "max_length": max_length, "pooling": POOLING}
    write_json(path.with_suffix(".json"), facts)
    partial.replace(path)
    return split_sides(np.load(path, mmap_mode="r"))


def cache_key(pairs: Dataset, model_path: str | Path, max_length: int) -> str:
    """Hash of everything that the features depend on, 16 hexadecimal digits."""
    names = ("id", *PAIR_SIDES)
    texts = hashlib.sha256()
    for number, row in enumerate(stream_rows(pairs, names)):
        texts.update(b"\n" if number else b"")
        texts.update(json.dumps([row[name] for name in names], sort_keys=True).encode())
    return sha256_text(json.dumps([input_hash(model_path), texts.hexdigest(), max_length, POOLING]))[:16]


def load_backbone(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, *, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The model at `path` in float32, on the accelerator where there is one; a language model keeps its head."""
    config = load_pretrained(AutoConfig, path, "a model's folder or hub name", trust_remote_code=trust_remote_code)
    causal = any(name.endswith(CAUSAL) for name in config.architectures or ())
    backbone: PreTrainedModel = load_pretrained(
        AutoModelForCausalLM if causal else AutoModel, path, "a model's folder or hub name, with safetensors weights",
        dtype=torch.float32, trust_remote_code=trust_remote_code,
    )
    if backbone.config.is_encoder_decoder:
        raise_input_error(
            f"backbone {path}", "an encoder or a causal model", Verbatim("an encoder-decoder"), "Name another one."
        )
    enlarge_embeddings(backbone, tokenizer)
    return backbone.eval().to("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def pool_batches(
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: UniqueConversations,
    max_tokens_per_batch: int,
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Indices of conversations and their features [conversation, feature], the longest first, to fail early."""
    order = conversations.longest_first
    with tqdm(total=len(order), desc="Extracting features", unit="response") as bar:
        for batch in token_batches(conversations.tokens, max_tokens_per_batch, padded=True):
            rows = order[batch]
            sequences = conversations.read(rows)
            padded = pad_right([ids.tolist() for ids, _ in sequences], tokenizer)
            tokens = {name: part.to(backbone.device) for name, part in padded.items()}
            states = backbone.base_model(**tokens, output_hidden_states=True).hidden_states
            starts = torch.tensor([[start] for _, start in sequences], device=backbone.device)
            positions = torch.arange(states[0].shape[1], device=backbone.device)
            response = tokens["attention_mask"] * (positions >= starts).float()
            parts = pool_means(states, response)
            head = backbone.get_output_embeddings()
            if head is not None:
                parts += pool_surprise(states, head, tokens["input_ids"], response)
            yield rows, torch.cat(parts, dim=1).cpu().numpy()
            bar.update(len(rows))


def fill_table(
    path: Path | None,
    pairs: int,
    conversations: UniqueConversations,
    batches: Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]],
) -> NDArray[np.float32]:
    """Batches of features as an array [side * pair, feature], in memory or in the .npy file `path`."""
    table: NDArray[np.float32] | None = None
    for rows, vectors in batches:
        if not np.isfinite(vectors).all():
            raise_input_error(
                "features", "finite numbers", Verbatim("NaN or infinity"), "Check the backbone's weights."
            )
        if table is None:
            shape = (2 * pairs, vectors.shape[1])
            table = np.empty(shape, np.float32) if path is None else map_table(path, shape)
        for row, vector in zip(rows, vectors, strict=True):
            table[conversations.positions(row)] = vector
    assert table is not None
    if isinstance(table, np.memmap):
        table.flush()
    return table


def map_table(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A new .npy file, preallocated and mapped."""
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    with path.open("r+b") as file:
        preallocate(file.fileno(), path.stat().st_size)
    return table


def split_sides(table: NDArray[np.float32]) -> Features:
    """The two sides of an array [side * pair, feature]."""
    table.flags.writeable = False
    return Features(*table.reshape(2, len(table) // 2, -1))


POOLING = "means of the middle and the last but one layer; excess surprise of the embeddings and the last layer"


def pool_means(states: Sequence[Tensor], response: Tensor) -> list[Tensor]:
    """Means over the response, [sequence, hidden] each.

    `states` are hidden states [sequence, token, hidden], the embeddings first; `response` [sequence, token] is 1
    for the response's tokens. Where middle and last but one are the same layer, it is used once.
    """
    layers = sorted({len(states) // 2, len(states) - 2})
    count = response.sum(dim=1, keepdim=True)
    return [torch.einsum("sth,st->sh", states[layer], response) / count for layer in layers]


def pool_surprise(states: Sequence[Tensor], head: nn.Module, input_ids: Tensor, response: Tensor) -> list[Tensor]:
    """States that predicted the response, weighted by excess surprise and summed, [sequence, hidden] each.

    Excess surprise is -log p(token) minus the entropy of the prediction. `head` gives logits [.., vocabulary] from the
    last state, for one response at a time, since logits are the largest array.
    """
    excess = torch.zeros_like(response)
    for row, tokens in enumerate(input_ids):
        positions = response[row].nonzero()[:, 0]
        positions = positions[positions > 0]  # the first token of a sequence is not predicted
        scores = head(states[-1][row, positions - 1]).float().log_softmax(dim=-1)
        entropy = -(scores.exp() * scores).sum(dim=-1)
        excess[row, positions - 1] = -scores.gather(1, tokens[positions, None])[:, 0] - entropy
    return [torch.einsum("sth,st->sh", states[layer], excess) for layer in (0, -1)]
