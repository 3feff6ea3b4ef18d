"""Log-probabilities of given responses under a language model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rmkit.data.chat_template import Encoded, encode_rows, unwrap
from rmkit.data.collators import pad_right
from rmkit.data.token_batches import MAX_TOKENS, token_batches
from rmkit.models.reward_model import eval_mode


@torch.inference_mode()
def measure_log_probs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    max_length: int,
    max_tokens_per_batch: int = MAX_TOKENS,
) -> list[NDArray[np.float64]]:
    """log p(response | prompt), natural, of every row's `responses` to its `prompt` (messages): [response] by row.

    Summed over the response's tokens and the end token of the chat template. The tokens are those of the tokenizer,
    which may differ from the ones that were generated. Raises `InputError` for a response without tokens, or one that
    exceeds `max_length`.
    """
    encoded: list[Encoded] = []
    for number, row in enumerate(rows):
        conversations = encode_rows(tokenizer, [(row["prompt"], row["responses"])], max_length)[0]
        encoded += [unwrap(conversation, f"row {number}") for conversation in conversations]
    order = sorted(range(len(encoded)), key=lambda index: -len(encoded[index].input_ids))
    sizes = np.array([len(encoded[index].input_ids) for index in order], np.int32)
    values = np.zeros(len(encoded))
    with eval_mode(model), tqdm(total=len(encoded), desc="Likelihood", unit="response") as bar:
        for batch in token_batches(sizes, max_tokens_per_batch, padded=True):
            indices = order[batch]
            values[indices] = sum_log_probs(model, tokenizer, [encoded[index] for index in indices])
            bar.update(len(indices))
    return np.split(values, np.cumsum([len(row["responses"]) for row in rows])[:-1])


def sum_log_probs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Sequence[Encoded]
) -> NDArray[np.float64]:
    """The summed log-probability of each sequence's response, [sequence]."""
    padded = pad_right([conversation.input_ids for conversation in batch], tokenizer)
    tokens = {name: part.to(model.device) for name, part in padded.items()}
    tokens["input_ids"] *= tokens["attention_mask"]  # the pad token may be outside of the model's vocabulary
    log_probs = model(**tokens).logits[:, :-1].float().log_softmax(-1)
    of_tokens = log_probs.gather(-1, tokens["input_ids"][:, 1:, None])[..., 0].double()
    starts = torch.tensor([conversation.response_start for conversation in batch], device=model.device)
    ends = torch.tensor([len(conversation.input_ids) for conversation in batch], device=model.device)
    positions = torch.arange(1, of_tokens.shape[1] + 1, device=model.device)
    inside = (positions >= starts[:, None]) & (positions < ends[:, None])
    return of_tokens.where(inside, 0.0).sum(-1).cpu().numpy()
