"""Evaluation fine-tuning data (METHODS 2.1)."""

import itertools

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.meta_rewarding.eft import balance_scores, filter_by_rank_agreement, select_eft_judgments

NAN = np.nan


def ask(text):
    return [{"role": "user", "content": text}]


def agree_slowly(scores, ranks, allow_ties):
    """Why a prompt's n-th judgments are not kept, a pair at a time."""
    pairs = [np.sign(scores[a] - scores[b])
             for a, b in itertools.permutations(range(len(ranks)), 2)
             if ranks[a] < ranks[b] and not np.isnan(scores[a] + scores[b])]
    if not pairs:
        return "nothing to compare"
    if -1 in pairs:
        return "against the ranking"
    return "a tie" if 0 in pairs and (not allow_ties or 1 not in pairs) else ""


@pytest.mark.parametrize("allow_ties", [False, True])
def test_rank_agreement_is_the_slow_rule(allow_ties):
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 4, (400, 3, 2)).astype(float)
    ranks = generator.integers(0, 3, (400, 3)).astype(float)
    scores[generator.random(scores.shape) < 0.1], ranks[generator.random(ranks.shape) < 0.1] = NAN, NAN
    found = filter_by_rank_agreement(scores, ranks, allow_ties=allow_ties)
    for prompt, response, sample in np.ndindex(scores.shape):
        expected = agree_slowly(scores[prompt, :, sample], ranks[prompt], allow_ties)
        if np.isnan(ranks[prompt, response]):
            expected = "no rank"
        if np.isnan(scores[prompt, response, sample]):
            expected = "no score"
        assert found[prompt, response, sample] == expected
    assert {"", "no score", "no rank", "nothing to compare", "against the ranking", "a tie"} == set(found.ravel())


def test_judgments_of_one_draw_stand_or_fall_together():
    scores = [[[5, 3, 4, NAN], [3, 4, 4, 3], [1, 1, 1, 1]]]
    kept = filter_by_rank_agreement(scores, [[0, 1, 2]])
    assert kept[0, :, 0].tolist() == [""] * 3
    assert kept[0, :, 1].tolist() == ["against the ranking"] * 3
    assert kept[0, :, 2].tolist() == ["a tie"] * 3
    assert kept[0, :, 3].tolist() == ["no score", "", ""]
    assert filter_by_rank_agreement(scores, [[0, 1, 2]], allow_ties=True)[0, 0, 2] == ""
    assert (filter_by_rank_agreement(scores, [[2, 1, 0]]) != "").all()
    assert (
        filter_by_rank_agreement([[[2.0], [2.0]]], [[0, 1]], allow_ties=True) == "a tie"
    ).all()  # equal throughout: no order


def test_the_usual_score_is_cut_to_the_median():
    scores = np.repeat([1.0, 2.0, 3.0, 4.0, 4.4, 5.0], [20, 50, 150, 700, 300, 200])
    kept = balance_scores(scores, seed=0)
    counts = {score: int((kept & (np.floor(scores + 0.5) == score)).sum()) for score in (1, 2, 3, 4, 5)}
    assert counts == {1: 20, 2: 50, 3: 150, 4: 150, 5: 150}
    assert 20 < kept[scores == 4.4].sum() < 70  # 45 in expectation: drawn from both, not the first
    twice = balance_scores(scores, seed=0, most=2)
    assert (twice & (np.floor(scores + 0.5) == 4)).sum() == 300
    assert (balance_scores(scores, seed=0) == kept).all() and (balance_scores(scores, seed=1) != kept).any()
    assert balance_scores([3.0, 3.0, 3.0], seed=0).all()


def draw_lessons(**changes):
    generator = np.random.default_rng(1)
    ranks = np.tile([0.0, 1.0, 2.0], (200, 1))
    scores = 4.0 - ranks[..., None] + generator.integers(0, 2, (200, 3, 4))
    prompts = [ask(f"question {number}") for number in range(200)]
    return scores, select_eft_judgments(scores, ranks, prompts, **({"taught": [], "seed": 0} | changes))


def test_every_judgment_has_one_fate():
    scores, lessons = draw_lessons(taught=["question 3 ", "question 7"])
    counts = lessons.count()
    assert sum(counts.values()) == scores.size and counts["in the instruction data"] == 2 * 12
    assert (lessons.fate[[3, 7]] == "in the instruction data").all()
    assert set(counts) == {"train", "validation", "a tie", "score in excess", "in the instruction data"}
    _, times = np.unique(scores[lessons.fate == "train"], return_counts=True)
    _, before = np.unique(scores[np.isin(lessons.fate, ["train", "score in excess"])], return_counts=True)
    assert times.max() <= np.ceil(np.median(before)) < before.max()


def test_the_split_is_by_prompt():
    _, lessons = draw_lessons()
    splits = [set(row.ravel()) & {"train", "validation"} for row in lessons.fate]
    assert all(len(split) < 2 for split in splits)
    assert 25 < sum(split == {"validation"} for split in splits) < 75
    _, other = draw_lessons(seed=1)
    assert (other.fate != lessons.fate).any()
    _, none = draw_lessons(validation_fraction=0.0)
    assert "validation" not in none.count()


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: filter_by_rank_agreement([[1.0, 2.0]], [[0, 1]]), "scores"),
        (lambda: filter_by_rank_agreement([[[1.0], [2.0]]], [[0, 1, 2]]), "ranks"),
        (lambda: balance_scores([1.0, NAN], seed=0), "scores"),
        (lambda: balance_scores([1.0], seed=0, most=0.5), "most"),
        (lambda: select_eft_judgments([[[1.0], [2.0]]], [[0, 1]], [], taught=[], seed=0), "prompts"),
        (lambda: draw_lessons(validation_fraction=1.0), "validation_fraction"),
    ],
)
def test_lessons_refuse(call, names):
    with pytest.raises(InputError, match=names):
        call()
