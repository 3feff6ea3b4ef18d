"""Frozen features: what a backbone says about each response, computed once and kept on disk."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from rmkit.core.checks import InputError, Seen, refuse
from rmkit.core.stages import digest, fingerprint, write_json
from rmkit.data.chat import OverLong, encode
from rmkit.models.pooling import POOLING, pool_means, pool_surprise
from rmkit.models.reward import first_line, load_tokenizer, quiet

CAUSAL = ("ForCausalLM", "LMHeadModel")  # how the names of causal language models end


class Features(NamedTuple):
    """Features of the two sides of each pair, [pair, feature] float32 and read-only, mapped from disk if cached."""

    chosen: NDArray[np.float32]
    rejected: NDArray[np.float32]


@dataclass
class Sequences:
    """The distinct conversations of a set of pairs; `places[k]` says where the k-th stands in [side * pair]."""

    input_ids: list[list[int]]
    response_start: list[int]
    places: list[list[int]]


def extract_features(
    pairs: Dataset,
    model_path: str | Path,
    *,
    max_length: int = 512,
    batch_size: int = 32,
    cache_dir: str | Path | None = None,
    trust_remote_code: bool = False,
) -> Features:
    """Features of prompt + response from the frozen backbone at `model_path`, an encoder or a causal model.

    See `rmkit.models.pooling` for what a feature is: means of the response's states, and for a causal language model
    what surprised it too. `pairs` has `id`, `prompt`, `chosen`, `rejected`; their order
    is kept. Prompts are cut from the left to fit `max_length` tokens. A conversation that several pairs share is
    read once. With `cache_dir`, the result is kept there under a key of the backbone, the texts and `max_length`,
    and a second call maps it from disk instead of computing it.

    Raises `InputError` when there is no such backbone, for an encoder-decoder, for a response that does not fit
    (`OverLong`), and for features that are not finite.
    """
    if not len(pairs):
        refuse("pairs", "at least one pair", Seen("none"), "Check what was read.")
    path = None if cache_dir is None else Path(cache_dir) / f"features-{make_key(pairs, model_path, max_length)}.npy"
    if path is not None and path.exists():
        return split_sides(np.load(path, mmap_mode="r"))
    tokenizer = load_tokenizer(model_path, trust_remote_code=trust_remote_code)
    sequences = encode_sequences(pairs, tokenizer, max_length)
    backbone = load_backbone(model_path, tokenizer, trust_remote_code=trust_remote_code)
    batches = pool_batches(backbone, sequences, tokenizer.pad_token_id, batch_size)
    if path is None:
        return split_sides(fill(None, len(pairs), sequences, batches))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")  # moved last: a run that was killed leaves no half-filled cache behind
    fill(draft, len(pairs), sequences, batches)
    facts = {"backbone": str(model_path), "pairs": len(pairs), "max_length": max_length, "pooling": POOLING}
    write_json(path.with_suffix(".json"), facts)
    draft.replace(path)
    return split_sides(np.load(path, mmap_mode="r"))


def make_key(pairs: Dataset, model_path: str | Path, max_length: int) -> str:
    """What the features depend on, as 16 hexadecimal digits."""
    texts = "\n".join(
        json.dumps([row[name] for name in ("id", "prompt", "chosen", "rejected")], sort_keys=True)
        for row in pairs.select_columns(["id", "prompt", "chosen", "rejected"])
    )
    return digest(json.dumps([fingerprint(model_path), digest(texts), max_length, POOLING]))[:16]


def encode_sequences(pairs: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Sequences:
    """Token ids of every distinct conversation, and where each one belongs."""
    found: dict[str, int] = {}
    sequences = Sequences([], [], [])
    for number, row in enumerate(tqdm(pairs, desc="Tokenising pairs", unit="pair")):
        for place, side in ((number, "chosen"), (len(pairs) + number, "rejected")):
            text = json.dumps([row["prompt"], row[side]], sort_keys=True)
            if text not in found:
                found[text] = len(found)
                encoded = encode_side(row, side, tokenizer, max_length)
                sequences.input_ids.append(encoded[0])
                sequences.response_start.append(encoded[1])
                sequences.places.append([])
            sequences.places[found[text]].append(place)
    return sequences


def encode_side(
    row: dict[str, Any], side: str, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[int], int]:
    """Token ids of one side of a pair and the position where its response begins; a fault names the pair."""
    try:
        encoded = encode(tokenizer, row["prompt"], row[side], max_length)
    except InputError as error:
        kind = OverLong if isinstance(error, OverLong) else InputError
        raise kind(f"pair {row['id']}: {error}") from None
    return encoded.input_ids, encoded.response_start


def load_backbone(
    path: str | Path, tokenizer: PreTrainedTokenizerBase, *, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The model at `path` in float32, on the accelerator where there is one; a language model keeps its head."""
    try:
        with quiet():
            config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
            causal = any(name.endswith(CAUSAL) for name in config.architectures or ())
            kind = AutoModelForCausalLM if causal else AutoModel
            backbone: PreTrainedModel = kind.from_pretrained(
                path, dtype=torch.float32, use_safetensors=True, trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError, RuntimeError) as error:
        refuse(f"backbone {path}", "a model's folder or hub name", Seen(first_line(error)), "Check the path.")
    if backbone.config.is_encoder_decoder:
        refuse(f"backbone {path}", "an encoder or a causal model", Seen("an encoder-decoder"), "Name another one.")
    embeddings: Any = backbone.get_input_embeddings()
    if embeddings.num_embeddings < len(tokenizer):
        backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return backbone.eval().to("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def pool_batches(
    backbone: PreTrainedModel, sequences: Sequences, pad: int, batch_size: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Which sequences, and their features [sequence, feature], batch by batch, longest first (it fails early)."""
    order = np.argsort([-len(ids) for ids in sequences.input_ids], kind="stable")
    with tqdm(total=len(order), desc="Extracting features", unit="response") as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start:start + batch_size]
            longest = len(sequences.input_ids[rows[0]])
            input_ids = torch.full((len(rows), longest), pad)
            attended = torch.zeros((len(rows), longest), dtype=torch.long)
            response = torch.zeros((len(rows), longest))
            for line, row in enumerate(rows):
                ids = sequences.input_ids[row]
                input_ids[line, :len(ids)] = torch.tensor(ids)
                attended[line, :len(ids)] = 1
                response[line, sequences.response_start[row]:len(ids)] = 1
            tokens, attended, response = (part.to(backbone.device) for part in (input_ids, attended, response))
            states = backbone.base_model(
                input_ids=tokens, attention_mask=attended, output_hidden_states=True
            ).hidden_states
            parts = pool_means(states, response)
            head = backbone.get_output_embeddings()
            if head is not None:
                parts += pool_surprise(states, head, tokens, response)
            yield rows, torch.cat(parts, dim=1).cpu().numpy()
            bar.update(len(rows))


def fill(
    path: Path | None,
    pairs: int,
    sequences: Sequences,
    batches: Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]],
) -> NDArray[np.float32]:
    """Batches of features put into their places in an array [side * pair, feature], in memory or in a .npy file."""
    table: NDArray[np.float32] | None = None
    for rows, vectors in batches:
        if not np.isfinite(vectors).all():
            refuse("features", "finite numbers", Seen("NaN or infinity"), "Check the backbone's weights.")
        if table is None:
            shape = (2 * pairs, vectors.shape[1])
            table = (
                np.empty(shape, np.float32) if path is None
                else np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            )
        for row, vector in zip(rows, vectors, strict=True):
            table[sequences.places[row]] = vector
    assert table is not None
    if isinstance(table, np.memmap):
        table.flush()
    return table


def split_sides(table: NDArray[np.float32]) -> Features:
    """The two sides of an array [side * pair, feature]."""
    table.flags.writeable = False
    return Features(*table.reshape(2, len(table) // 2, -1))
