"""Windows: parts of a set of pairs whose conversations are held at once, and every member's own way through them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rmkit.data.collate import encode_pairs
from rmkit.data.tables import SIDES, number_prompts, read_column

Rows = NDArray[np.intp]
READ_AT_ONCE = 32  # conversations
KEPT = 2 * 2**30  # bytes of states that are kept from one epoch to the next


@dataclass(frozen=True)
class Window:
    """Some pairs and their distinct conversations, as tokens and as the states that the trunk makes of them.

    rows, group [pair]: positions in the set, and a number for each prompt; places [side, pair]: each pair's two
    conversations; lengths [conversation], in tokens; input_ids, attention_mask [conversation, token], padded on the
    right; states [conversation, token, hidden].
    """

    rows: Rows
    group: Rows
    places: Rows
    lengths: Rows
    input_ids: Tensor
    attention_mask: Tensor
    states: Tensor


@dataclass(frozen=True)
class Part:
    """What some members read at once.

    members: which of them; rows [member, pair]: positions in the set; conversations [member, row]: the window's that
    the member reads, each once, then repeated up to the largest number of any member; places [side, member, pair]:
    the pairs' among them; longest: of the conversations, in tokens.
    """

    members: slice
    rows: Rows
    conversations: Rows
    places: Rows
    longest: int


class Windows:
    """A set of pairs in windows of at most `size`; `trunk` makes states of input ids and attention mask.

    Pairs of like length stand in one window, and those of one prompt. With `keep`, states are kept for the next time
    their window is read, as many as there is room for. `device` is where the trunk is.
    """

    def __init__(
        self,
        pairs: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        *,
        size: int,
        trunk: Callable[[Tensor, Tensor], Tensor],
        device: torch.device | str,
        keep: bool,
    ) -> None:
        self.encoded = encode_pairs(pairs.select_columns(["id", *SIDES]), tokenizer, max_length)
        self.group = number_prompts(pairs)
        lengths = read_column(self.encoded, "length", np.int32)
        self.longest = int(lengths.max())
        self.rows = cut_windows(lengths, self.group, size)
        self.pad = int(tokenizer.pad_token_id)
        self.trunk = trunk
        self.device = device
        self.kept: dict[int, Window] = {}
        self.room = KEPT if keep else 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Window:
        if number in self.kept:
            return self.kept[number]
        rows = self.rows[number]
        found: dict[tuple[int, ...], int] = {}
        batch = self.encoded[rows]
        places = [[found.setdefault(tuple(ids), len(found)) for ids in batch[f"input_ids_{side}"]]
                  for side in ("chosen", "rejected")]
        lengths = np.array([len(ids) for ids in found])
        input_ids = torch.full((len(found), lengths.max()), self.pad)
        for ids, place in found.items():
            input_ids[place, :len(ids)] = torch.tensor(ids)
        attention_mask = (torch.arange(lengths.max()) < torch.from_numpy(lengths)[:, None]).long()
        tokens = input_ids.to(self.device), attention_mask.to(self.device)
        states = torch.cat([self.trunk(*part) for part in zip(*(each.split(READ_AT_ONCE) for each in tokens),
                                                              strict=True)])
        group = np.unique(self.group[rows], return_inverse=True)[1]
        window = Window(rows, group, np.array(places), lengths, *tokens, states)
        if states.nbytes <= self.room:
            self.room -= states.nbytes
            self.kept[number] = window
        return window


def cut_windows(lengths: NDArray[np.integer], group: NDArray[np.integer], size: int) -> list[Rows]:
    """Positions of pairs in windows of at most `size`, from each pair's longer side in tokens and its prompt's number.

    The longest come first, so that what does not fit fails early; a prompt counts with its longest pair.
    """
    longest = np.zeros(group.max() + 1, dtype=np.int64)
    np.maximum.at(longest, group, lengths)
    order = np.lexsort((group, -longest[group]))
    return list(np.array_split(order, -(-len(order) // size)))


def draw_turns(window: Window, orders: Sequence[np.random.Generator], batch_size: int) -> Iterator[Rows]:
    """One pass of every member through the window: batches [member, pair] of positions in the window.

    Each member goes in an order of its own, prompts at random and pairs at random within. A prompt's pairs come
    together, so that a response that several of them share is read once per batch, as arXiv 2203.02155 (Section 3.5)
    reads all comparisons of one prompt. The sizes of a pass's batches differ by at most one.
    """
    count, prompts = len(window.rows), int(window.group.max()) + 1
    turns = [np.lexsort((order.random(count), order.random(prompts)[window.group])) for order in orders]
    yield from np.array_split(np.stack(turns), -(-count // batch_size), axis=1)


def split_batch(window: Window, pairs: Rows, tokens: int, first: int = 0) -> Iterator[Part]:
    """A batch [member, pair] in parts of at most `tokens` tokens, or of one pair of one member; `first`: its member.

    Members are parted before pairs, which may share responses.
    """
    part = gather_part(window, pairs, first)
    members, count = pairs.shape
    if part.conversations.size * part.longest <= tokens or members * count == 1:
        yield part
        return
    for half in np.array_split(pairs, 2, axis=0 if members > 1 else 1):
        yield from split_batch(window, half, tokens, first)
        first += len(half) if members > 1 else 0


def gather_part(window: Window, pairs: Rows, first: int = 0) -> Part:
    """What the members from `first` on read for `pairs` [member, pair]."""
    members, count = pairs.shape
    found = [np.unique(window.places[:, own], return_inverse=True) for own in pairs]
    conversations = np.empty((members, max(len(own) for own, _ in found)), dtype=np.intp)
    places = np.empty((2, members, count), dtype=np.intp)
    for member, (own, inverse) in enumerate(found):
        conversations[member] = np.resize(own, conversations.shape[1])
        places[:, member] = inverse.reshape(2, count)
    longest = int(window.lengths[conversations].max())
    return Part(slice(first, first + members), window.rows[pairs], conversations, places, longest)
