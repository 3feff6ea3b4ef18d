"""Conversations: each distinct one once, read back as it was encoded, and found where it stands."""

import numpy as np
import pytest
from datasets import Dataset

from rmkit.data import memmap as pages
from rmkit.data.chat_template import encode
from rmkit.ensembles import conversations
from rmkit.ensembles.conversations import UniqueConversations
from rmkit.models.reward_model import load_tokenizer


@pytest.mark.parametrize(("min_bytes", "at_once"), [(1, 4), (2**24, 32)])
def test_every_place_has_its_tokens_and_every_conversation_its_places(
    tiny_base, tiny_pairs, min_bytes, at_once, monkeypatch
):
    monkeypatch.setattr(pages, "MIN_BYTES", min_bytes)  # arrays in files or in memory
    monkeypatch.setattr(conversations, "AT_ONCE", at_once)
    rows = tiny_pairs.to_list()
    turned = [{**row, "id": f"turned {row['id']}", "chosen": row["rejected"], "rejected": row["chosen"]}
              for row in rows[3:9]]
    rows = rows[:5] + turned + rows[5:] + [{**rows[0], "id": "again"}]
    tokenizer = load_tokenizer(tiny_base)
    found = UniqueConversations(Dataset.from_list(rows), tokenizer, 100)
    expected = [encode(tokenizer, row["prompt"], row[side], 100) for side in ("chosen", "rejected") for row in rows]
    assert len(found.longest_first) == len({tuple(one.input_ids) for one in expected}) == 48
    lengths, places = [], []
    for number in found.longest_first:
        (tokens, response_start), = found.read(np.array([number]))
        lengths.append(len(tokens))
        for place in found.positions(number):
            places.append(place)
            assert (tokens.tolist(), response_start) == (expected[place].input_ids, expected[place].response_start)
    assert sorted(places) == list(range(2 * len(rows)))
    assert lengths == sorted(lengths, reverse=True)
