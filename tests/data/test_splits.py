import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmkit.data.splits import assign_split


def prompt(text):
    return [{"role": "user", "content": text}]


@given(st.text(), st.integers(0, 100))
def test_a_prompt_keeps_its_split(text, seed):
    first = assign_split(prompt(text), seed=seed, validation_fraction=0.3, test_fraction=0.3)
    reordered = [{"content": text, "role": "user"}]
    assert assign_split(reordered, seed=seed, validation_fraction=0.3, test_fraction=0.3) == first


@pytest.mark.parametrize("validation, test", [(0.1, 0.2), (0.0, 0.0)])
def test_fractions_are_met(validation, test):
    splits = [assign_split(prompt(f"p{number}"), seed=0, validation_fraction=validation, test_fraction=test)
              for number in range(10_000)]
    for name, fraction in (("train", 1 - validation - test), ("validation", validation), ("test", test)):
        spread = math.sqrt(fraction * (1 - fraction) / 10_000)
        assert abs(splits.count(name) / 10_000 - fraction) <= 4 * spread


def test_another_seed_is_another_split_and_a_value_is_pinned():
    splits = ["".join(assign_split(prompt(f"p{number}"), seed=seed, validation_fraction=0.3, test_fraction=0.3)[1]
                      for number in range(20)) for seed in (0, 1)]
    assert splits[0] != splits[1]
    assert splits[0] == "reearereereraeerrear"  # t[r]ain, v[a]lidation, t[e]st: a set read again must not be split anew
