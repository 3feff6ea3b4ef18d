"""Datasets of prompts and responses, encoded as datasets of token ids."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from datasets import Dataset, Features
from transformers import PreTrainedTokenizerBase

from rmkit.data.chat_template import Encoded, ResponseTooLong, encode_rows, unwrap

LABELS = ("target", "margin")


def encode_dataset(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    convert: Callable[[str, list[Encoded]], Iterable[Mapping[str, Any]]],
    features: Mapping[str, Any],
    *,
    sides: Sequence[str] = ("chosen", "rejected"),
    labels: bool = False,
    starts: bool = False,
    drop_too_long: bool = False,
) -> Dataset:
    """The rows that `convert` makes of each row's name and of its prompt with each of its responses, in order.

    The responses are those in the column `responses` or, without it, in the columns `sides`. With `labels`, `target`
    and `margin` are kept. `starts`: as in `encode_rows`, whose errors are raised behind the name of the row; with
    `drop_too_long`, rows with a response that exceeds `max_length` are left out instead.
    """
    kept = [name for name in LABELS if labels and name in dataset.column_names]
    features = Features({**{name: dataset.features[name] for name in kept}, **features})

    def encode_batch(batch: Mapping[str, list], indices: Sequence[int]) -> dict[str, list]:
        responses = batch["responses"] if "responses" in batch else zip(*(batch[side] for side in sides), strict=True)
        pairs = list(zip(batch["prompt"], responses, strict=True))
        encoded: dict[str, list] = {name: [] for name in features}
        for index, group in enumerate(encode_rows(tokenizer, pairs, max_length, starts=starts)):
            if drop_too_long and any(isinstance(response, ResponseTooLong) for response in group):
                continue
            name = f"pair {batch['id'][index]}" if "id" in batch else f"row {indices[index]}"
            for row in convert(name, [unwrap(response, name) for response in group]):
                for column, values in encoded.items():
                    values.append(row[column] if column in row else batch[column][index])
        return encoded

    return dataset.map(
        encode_batch,
        batched=True,
        with_indices=True,
        remove_columns=dataset.column_names,
        features=features,
        load_from_cache_file=False,  # the cache's key does not see a change in how rmkit encodes
        desc="Tokenising",
    )
