"""A reward model in a plain torch loop: trains on the output of `rmkit repair`, with only the loss from rmkit.

    pairs = datasets.Dataset.from_parquet("REPAIRED/train.parquet")
    train(AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1), tokenizer, pairs)

`pairs` has `prompt`, `chosen`, `rejected` (lists of messages), `target` and `margin`. The model needs `pad_token_id`.
"""

import torch

from rmkit.losses import bradley_terry_loss


def train(model, tokenizer, pairs, *, batch_size=8, learning_rate=1e-5):
    """One epoch of AdamW, in the order of the pairs; returns the mean loss of every batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    losses = []
    model.train()
    for batch in pairs.with_format("torch", ["target", "margin"], output_all_columns=True).iter(batch_size):
        chats = [p + r for side in ("chosen", "rejected") for p, r in zip(batch["prompt"], batch[side], strict=True)]
        tokens = tokenizer.apply_chat_template(chats, padding=True, return_dict=True, return_tensors="pt")
        chosen, rejected = model(**tokens.to(model.device)).logits.squeeze(-1).chunk(2)
        loss = bradley_terry_loss(chosen, rejected, target=batch["target"], margin=batch["margin"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
