"""Rows of benchmarks with rewards written by hand."""

import numpy as np
import pytest

from rmkit.evaluation.benchmarks.base import ScoredItems


@pytest.fixture
def score():
    """score(parse, [(row, rewards), ...]): the items of these rows as a model with these rewards would leave them."""

    def make(parse, rows):
        scored = ScoredItems()
        for number, (row, rewards) in enumerate(rows):
            item = parse(row)
            assert len(item.responses) == len(rewards)
            scored.numbers.append(number)
            scored.ids.append(str(row.get("id", number)))
            scored.parts.append(item.part)
            scored.groups.append(item.group)
            scored.grades.append(np.array(item.grades))
            scored.rewards.append(np.array(rewards, dtype=float))
        return scored

    return make
