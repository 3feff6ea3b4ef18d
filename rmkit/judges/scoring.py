"""Scoring: the rewards of tasks by reward models in this process."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset

from rmkit.data.groups import TOKENS, encode_groups
from rmkit.judges.judgment import Messages, Task
from rmkit.judges.quotation import break_tokens, list_special
from rmkit.judges.reward_model import Rewards
from rmkit.models.scoring import choose_sharing, load_scorer, score_units


class ModelScorer:
    """Reward models at `paths`, each a member, all in memory; on the accelerator where there is one.

    A prompt or a response that spells out one of a tokenizer's special tokens does not become that token: it could end
    its turn and pose as the next one.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        *,
        max_length: int,
        tokens_at_once: int = TOKENS,
        trust_remote_code: bool = False,
    ) -> None:
        self.max_length = max_length
        self.tokens_at_once = tokens_at_once
        self.members = [load_scorer(path, trust_remote_code=trust_remote_code) for path in paths]

    def score(self, tasks: Sequence[Task]) -> Rewards:
        """Rewards [member, task], and the tokens of each task, all members' together.

        Prompts are cut from the left to fit `max_length`. Raises `OverLong` when a response alone exceeds it, and
        `InputError` for a reward that is not finite.
        """
        rewards = np.empty((len(self.members), len(tasks)))
        tokens = np.zeros(len(tasks), np.int64)
        for member, (model, tokenizer) in enumerate(self.members):
            rows = Dataset.from_list(group_tasks(tasks, list_special(tokenizer)))
            sharing = choose_sharing(model, self.max_length, self.tokens_at_once)
            units = encode_groups(rows, tokenizer, self.max_length, shared_tokens=sharing)
            rewards[member] = score_units(
                model, tokenizer, units, max_length=self.max_length, tokens_at_once=self.tokens_at_once
            )
            tokens += [len(sequence) for group in units["input_ids"] for sequence in group]
        return Rewards(rewards, tokens)


def group_tasks(tasks: Sequence[Task], special: Sequence[str]) -> list[dict[str, object]]:
    """Rows of a prompt and its responses, those of tasks in a row; no special token is spelt out in them."""
    return [
        {"id": own[0].id, "prompt": spell_out(prompt, special),
         "responses": [spell_out(task.responses[0], special) for task in own]}
        for prompt, group in itertools.groupby(tasks, key=lambda task: task.prompt) for own in [list(group)]
    ]


def spell_out(messages: Messages, special: Sequence[str]) -> list[dict[str, str]]:
    """Messages in which each special token is words."""
    return [{"role": message["role"], "content": break_tokens(message["content"], special)} for message in messages]
