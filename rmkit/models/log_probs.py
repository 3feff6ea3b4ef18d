"""How likely a language model finds given responses."""

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

    The sum over the response's tokens as the chat template ends it, the end token with them. A text is read as the
    tokenizer cuts it, which need not be how it was generated. Raises `InputError` for a response without a token, or
    one that exceeds `max_length`.
    """
    encoded: list[Encoded] = []
    for number, row in enumerate(rows):
        found = encode_rows(tokenizer, [(row["prompt"], row["responses"])], max_length)[0]
        encoded += [unwrap(one, f"row {number}") for one in found]
    order = sorted(range(len(encoded)), key=lambda place: -len(encoded[place].input_ids))
    sizes = np.array([len(encoded[place].input_ids) for place in order], np.int32)
    values = np.zeros(len(encoded))
    was_training = model.training
    model.eval()
    try:
        with tqdm(total=len(encoded), desc="Likelihood", unit="response") as bar:
            for batch in token_batches(sizes, max_tokens_per_batch, padded=True):
                places = order[batch]
                values[places] = sum_logprobs(model, tokenizer, [encoded[place] for place in places])
                bar.update(len(places))
    finally:
        model.train(was_training)
    return np.split(values, np.cumsum([len(row["responses"]) for row in rows])[:-1])


def sum_logprobs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Sequence[Encoded]
) -> NDArray[np.float64]:
    """The summed log-probability of each sequence's response, [sequence]."""
    tokens = {name: part.to(model.device) for name, part in
              pad_right([one.input_ids for one in batch], tokenizer).items()}
    tokens["input_ids"] *= tokens["attention_mask"]  # the pad token may be one that the model does not know
    logprobs = model(**tokens).logits[:, :-1].float().log_softmax(-1)
    drawn = logprobs.gather(-1, tokens["input_ids"][:, 1:, None])[..., 0].double()
    starts = torch.tensor([one.response_start for one in batch], device=model.device)
    ends = torch.tensor([len(one.input_ids) for one in batch], device=model.device)
    places = torch.arange(1, drawn.shape[1] + 1, device=model.device)
    inside = (places >= starts[:, None]) & (places < ends[:, None])
    return drawn.where(inside, 0.0).sum(-1).cpu().numpy()
