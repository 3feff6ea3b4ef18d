"""Windows: every pair once per pass and member, like lengths and one prompt together, each conversation read once."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from datasets import Dataset

from rmkit.models import windows
from rmkit.models.reward import load_tokenizer
from rmkit.models.windows import Windows, cut_windows, draw_turns, gather_part, split_batch


@pytest.fixture
def shared_pairs():
    """All comparisons of 4 responses under each of 5 prompts: 30 pairs of 20 conversations."""
    return Dataset.from_list([
        {"id": f"{prompt}-{better}-{worse}", "source": "code",
         "prompt": [{"role": "user", "content": "stone " * prompt}],
         "chosen": [{"role": "assistant", "content": "red " * (better + 1)}],
         "rejected": [{"role": "assistant", "content": "red " * (worse + 1)}]}
        for prompt in range(5) for better in range(4) for worse in range(better)
    ])


@pytest.fixture
def cut(shared_pairs, tiny_base):
    def make(**settings):
        settings = {"size": 12, "trunk": count_tokens, "device": "cpu", "keep": False, **settings}
        return Windows(shared_pairs, load_tokenizer(tiny_base), 128, **settings)

    return make


def count_tokens(input_ids, attention_mask):
    """A trunk whose states can be told: the token and how many tokens there are."""
    return torch.stack([input_ids, attention_mask.sum(1, keepdim=True).expand_as(input_ids)], dim=2).float()


def orders(members=3):
    return [np.random.default_rng(member) for member in range(members)]


def test_windows_hold_every_pair_with_its_two_conversations(cut):
    found = cut()
    assert len(found) == 3
    seen = []
    for number in range(3):
        window = found[number]
        seen += window.rows.tolist()
        assert len(set(map(tuple, window.input_ids.tolist()))) == len(window.input_ids)  # each conversation once
        torch.testing.assert_close(window.states, count_tokens(window.input_ids, window.attention_mask))
        for place, row in enumerate(window.rows):
            for side, name in enumerate(("chosen", "rejected")):
                expected = found.encoded[int(row)][f"input_ids_{name}"]
                conversation = window.places[side, place]
                length = window.lengths[conversation]
                assert window.input_ids[conversation, :length].tolist() == expected
                assert window.attention_mask[conversation].sum() == length == len(expected)
    assert sorted(seen) == list(range(30))


def test_like_lengths_and_one_prompt_stand_together():
    rng = np.random.default_rng(0)
    lengths, group = rng.integers(10, 500, 200), np.arange(200) // 4
    found = cut_windows(lengths, group, 40)
    assert [len(rows) for rows in found] == [40] * 5
    for window, after in pairwise(found):
        assert max(lengths[window]) > max(lengths[after])
        assert not set(group[window]) & set(group[after])
    assert len(np.concatenate(cut_windows(lengths, group, 7))) == 200 and len(cut_windows(lengths, group, 7)[0]) <= 7


def test_a_pass_takes_every_pair_once_in_an_order_of_the_member_s_own(cut):
    window = cut(size=30)[0]
    batches = list(draw_turns(window, orders(), 8))
    assert [batch.shape for batch in batches] == [(3, 8), (3, 8), (3, 7), (3, 7)]
    turns = np.concatenate(batches, axis=1)
    assert (np.sort(turns, axis=1) == np.arange(30)).all()
    assert len({tuple(turn) for turn in turns}) == 3
    alone = np.concatenate(list(draw_turns(window, orders()[1:2], 8)), axis=1)
    np.testing.assert_array_equal(alone[0], turns[1])
    for turn in turns:  # a prompt's pairs come together: five stretches
        assert np.count_nonzero(np.diff(window.group[turn])) == 4
    later = np.concatenate(list(draw_turns(window, orders(), 8)), axis=1)
    np.testing.assert_array_equal(later, turns)


@pytest.mark.parametrize("tokens", [1, 100, 10**6])
def test_parts_hold_the_batch_and_read_what_pairs_share_once(cut, tokens):
    window = cut(size=30)[0]
    own = window.rows.tolist()
    for batch in draw_turns(window, orders(), 12):
        parts = list(split_batch(window, batch, tokens))
        for member in range(3):
            rows = []
            for part in parts:
                assert part.conversations.size * part.longest <= tokens or part.rows.size == 1
                assert part.longest == window.lengths[part.conversations].max()
                assert len(part.rows) == part.members.stop - part.members.start
                if not part.members.start <= member < part.members.stop:
                    continue
                line = member - part.members.start
                rows += part.rows[line].tolist()
                for side in range(2):
                    expected = [window.places[side, own.index(row)] for row in part.rows[line]]
                    np.testing.assert_array_equal(part.conversations[line][part.places[side, line]], expected)
            assert rows == window.rows[batch[member]].tolist()
        if tokens == 10**6:  # twelve pairs of at most three prompts, with four responses each
            assert len(parts) == 1 and parts[0].conversations.shape[1] <= 12


def test_members_are_parted_before_pairs(cut):
    window = cut(size=30)[0]
    batch = next(draw_turns(window, orders(), 12))
    whole = gather_part(window, batch)
    parts = list(split_batch(window, batch, whole.conversations.size * whole.longest - 1))
    assert [part.rows.shape for part in parts] == [(2, len(batch[0])), (1, len(batch[0]))]


def test_states_are_kept_as_far_as_there_is_room(cut, monkeypatch):
    calls = []

    def trunk(input_ids, attention_mask):
        calls.append(len(input_ids))
        return count_tokens(input_ids, attention_mask)

    for room, keep, runs in ((2**20, True, 3), (2**20, False, 6), (cut()[0].states.nbytes, True, 5)):
        monkeypatch.setattr(windows, "KEPT", room)
        calls.clear()
        found = cut(trunk=trunk, keep=keep)
        for _ in range(2):
            for number in range(3):
                found[number]
        assert len(calls) == runs
