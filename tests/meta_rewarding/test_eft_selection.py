"""Which judgments are used for evaluation fine-tuning (METHODS 2.1)."""

import itertools
from collections import Counter

import numpy as np
import pytest

from rmkit.core.checks import InputError
from rmkit.meta_rewarding.eft import balance_scores, filter_by_rank_agreement, select_eft_judgments

NAN = np.nan


def filter_by_pairs(scores, ranks, allow_ties):
    """Why a prompt's n-th judgments are not kept, a pair at a time."""
    signs = [np.sign(scores[better] - scores[worse])
             for better, worse in itertools.permutations(range(len(ranks)), 2)
             if ranks[better] < ranks[worse] and not np.isnan(scores[better] + scores[worse])]
    if not signs:
        return "nothing to compare"
    if -1 in signs:
        return "against the ranking"
    return "a tie" if 0 in signs and (not allow_ties or 1 not in signs) else ""


@pytest.mark.parametrize("allow_ties", [False, True])
def test_rank_agreement_equals_a_loop_over_pairs(allow_ties):
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 4, (400, 3, 2)).astype(float)
    ranks = generator.integers(0, 3, (400, 3)).astype(float)
    scores[generator.random(scores.shape) < 0.1], ranks[generator.random(ranks.shape) < 0.1] = NAN, NAN
    reasons = filter_by_rank_agreement(scores, ranks, allow_ties=allow_ties)
    for prompt, response, sample in np.ndindex(scores.shape):
        expected = filter_by_pairs(scores[prompt, :, sample], ranks[prompt], allow_ties)
        if np.isnan(ranks[prompt, response]):
            expected = "no rank"
        if np.isnan(scores[prompt, response, sample]):
            expected = "no score"
        assert reasons[prompt, response, sample] == expected
    assert {"", "no score", "no rank", "nothing to compare", "against the ranking", "a tie"} == set(reasons.ravel())


def test_frequent_scores_are_cut_to_the_median_frequency():
    scores = np.repeat([1.0, 2.0, 3.0, 4.0, 4.4, 5.0], [20, 50, 150, 700, 300, 200])
    kept = balance_scores(scores, seed=0)
    counts = {score: int((kept & (np.floor(scores + 0.5) == score)).sum()) for score in (1, 2, 3, 4, 5)}
    assert counts == {1: 20, 2: 50, 3: 150, 4: 150, 5: 150}
    assert 20 < kept[scores == 4.4].sum() < 70  # 45 expected: drawn from both, not the first ones
    assert (balance_scores(scores, seed=0, max_score_ratio=2) & (np.floor(scores + 0.5) == 4)).sum() == 300
    assert (balance_scores(scores, seed=0) == kept).all() and (balance_scores(scores, seed=1) != kept).any()
    assert balance_scores([3.0, 3.0, 3.0], seed=0).all()


def select(**changes):
    """Scores and status of judgments of 200 prompts."""
    generator = np.random.default_rng(1)
    ranks = np.tile([0.0, 1.0, 2.0], (200, 1))
    scores = 4.0 - ranks[..., None] + generator.integers(0, 2, (200, 3, 4))
    prompts = [[{"role": "user", "content": f"question {number}"}] for number in range(200)]
    return scores, select_eft_judgments(scores, ranks, prompts, **{"instruction_prompts": [], "seed": 0, **changes})


def test_every_judgment_has_one_status():
    scores, status = select(instruction_prompts=["question 3 ", "question 7"])
    counts = Counter(status.ravel().tolist())
    assert counts["in the instruction data"] == 2 * 12 and (status[[3, 7]] == "in the instruction data").all()
    assert set(counts) == {"train", "validation", "a tie", "score in excess", "in the instruction data"}
    _, after = np.unique(scores[status == "train"], return_counts=True)
    _, before = np.unique(scores[np.isin(status, ["train", "score in excess"])], return_counts=True)
    assert after.max() <= np.ceil(np.median(before)) < before.max()


def test_the_split_is_by_prompt():
    _, status = select()
    splits = [set(row.ravel()) & {"train", "validation"} for row in status]
    assert all(len(split) < 2 for split in splits)
    assert 25 < sum(split == {"validation"} for split in splits) < 75
    assert (select(seed=1)[1] != status).any()
    assert "validation" not in select(validation_fraction=0.0)[1]


@pytest.mark.parametrize("call, match", [
    (lambda: filter_by_rank_agreement([[1.0, 2.0]], [[0, 1]]), "scores"),
    (lambda: filter_by_rank_agreement([[[1.0], [2.0]]], [[0, 1, 2]]), "ranks"),
    (lambda: balance_scores([1.0, NAN], seed=0), "scores"),
    (lambda: balance_scores([1.0], seed=0, max_score_ratio=0.5), "max_score_ratio"),
    (lambda: select_eft_judgments([[[1.0], [2.0]]], [[0, 1]], [], instruction_prompts=[], seed=0), "prompts"),
])
def test_invalid_input(call, match):
    with pytest.raises(InputError, match=match):
        call()
