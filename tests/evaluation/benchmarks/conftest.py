"""Items of benchmarks with rewards given by hand."""

import numpy as np
import pytest

from rmkit.evaluation.benchmarks.base import ScoredItem


@pytest.fixture
def score():
    """score(parse, [(row, rewards), ...]): the rows' items as scored by a model with these rewards."""

    def make(parse, rows):
        items = []
        for number, (row, rewards) in enumerate(rows):
            item = parse(row)
            assert len(item.responses) == len(rewards)
            arrays = np.array(item.grades), np.array(rewards, float)
            items.append(ScoredItem(number, str(row.get("id", number)), item.part, item.group, *arrays))
        return items

    return make
