"""The meta-judge: which of two judgments of the same response is the better one, by a language model."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.judges.base import PREFERENCE, Given, Judgment, Messages, Order
from rmkit.judges.language_model import JudgeSampler, by_slot, merge_orders
from rmkit.judges.prompts import META_JUDGE_PROMPTS
from rmkit.judges.sanitize import quote, quote_messages


@dataclass(frozen=True)
class JudgmentPair:
    """Two judgments, as text, of one response to one prompt."""

    prompt: Messages
    response: Messages
    judgments: tuple[str, str]


@dataclass(frozen=True)
class JudgmentSet:
    """All judgments, as text, of one response to one prompt."""

    prompt: Messages
    response: Messages
    judgments: Sequence[str]


class MetaJudge:
    """A language model that compares two judgments, always in both orders, `asking.samples` times in each.

    rule: the question that the judgments answer, rubric, hundred or gold; the meta-judge is shown its rule, if any.

    Source: Meta-Rewarding (arXiv 2407.19594), Section 2.3; the prompt is in the project's own words, and `Unparsed` is
    kept apart from a declared tie.
    """

    scale = PREFERENCE

    def __init__(self, asking: JudgeSampler, rule: str = "rubric") -> None:
        self.asking = asking
        self.question = META_JUDGE_PROMPTS[rule]

    def compare(self, contests: Sequence[JudgmentPair]) -> list[list[Given]]:
        """The answers to each contest, [contest][order * sample]; scores are the preference for the first as given."""
        orders: tuple[Order, ...] = ("given", "swapped")
        asked = [(self.show(contest, order), order) for contest in contests for order in orders]
        return merge_orders(self.asking.put(asked, self.question), len(orders))

    def show(self, contest: JudgmentPair, order: Order) -> Messages:
        """The conversation in which a contest is put to the meta-judge."""
        tokens = self.asking.tokens
        return self.question.ask(
            request=quote_messages(contest.prompt, tokens),
            response=quote_messages(contest.response, tokens),
            **by_slot([quote(judgment, tokens) for judgment in contest.judgments], order),
        )

    def battle(
        self, prompt: Messages, response: Messages, judgments: Sequence[str]
    ) -> tuple[NDArray[np.float64], list[list[Given]]]:
        """`battle_each` of one dispute."""
        return self.battle_each([JudgmentSet(prompt, response, judgments)])[0]

    def battle_each(self, disputes: Sequence[JudgmentSet]) -> list[tuple[NDArray[np.float64], list[list[Given]]]]:
        """Every pair of a response's N judgments in both orders: verdicts [judgment, judgment], and the answers.

        Entry [m, n] is that of the comparison in which m was shown first: 1 where m won, -1 where n did, 0 for a tie,
        NaN where no answer can be read and on the diagonal. With several samples, the sign of their mean. The answers
        are those of the pairs (0, 1), (0, 2), ..., as `compare` gives them.
        """
        pairs = [list(itertools.combinations(range(len(own.judgments)), 2)) for own in disputes]
        answers = iter(self.compare([
            JudgmentPair(own.prompt, own.response, (own.judgments[m], own.judgments[n]))
            for own, each in zip(disputes, pairs, strict=True) for m, n in each
        ]))
        found = []
        for own, each in zip(disputes, pairs, strict=True):
            verdicts = np.full((len(own.judgments), len(own.judgments)), math.nan)
            given = [next(answers) for _ in each]
            for (m, n), answer in zip(each, given, strict=True):
                verdicts[m, n] = find_verdict([one for one in answer if one.order == "given"])
                verdicts[n, m] = -find_verdict([one for one in answer if one.order == "swapped"])
            found.append((verdicts, given))
        return found


def find_verdict(answers: Iterable[Given]) -> float:
    """1 where the answers prefer the first as given on the whole, -1 the second, 0 neither; NaN without any."""
    leanings = [answer.score - 0.5 for answer in answers if isinstance(answer, Judgment)]
    return float(np.sign(round(sum(leanings), 9))) if leanings else math.nan  # a sum's last digits are by its order


def score_variance(scores: ArrayLike) -> NDArray[np.float64]:
    """Population variance of each response's scores, over [.., response], from scores over [.., response, judgment].

    NaN for a judgment without a score, which is left out; a response with fewer than two scores has none either.
    Raises `InputError` for infinite scores, and where there is no axis of judgments.

    Source: arXiv 2407.19594, Section 2.3, which does not say whether it divides by N or N - 1.
    """
    array = np.asarray(scores, dtype=np.float64)
    if not array.ndim or 0 in array.shape or np.isinf(array).any():
        raise_input_error(
            "scores", "numbers or NaN over [.., response, judgment]", Verbatim(f"shape {array.shape}"), "Check them."
        )
    known = ~np.isnan(array)
    count = known.sum(axis=-1, keepdims=True)
    total = np.where(known, array, 0.0).sum(axis=-1, keepdims=True)
    squares = np.where(known, np.square(array - total / np.maximum(count, 1)), 0.0).sum(axis=-1)
    return np.where(count[..., 0] > 1, squares / np.maximum(count[..., 0], 1), np.nan)


def highest_variance_response(scores: ArrayLike, *, seed: int) -> int | None:
    """Which of a prompt's responses has the highest variance of `scores` [response, judgment], NaN for no score.

    Equal variances (to nine digits) are drawn between under `seed`; None where no response has two scores.
    Raises `InputError` as `score_variance` does.

    Source: arXiv 2407.19594, Section 2.3: where the judge is least certain, its judgments are put against each other.
    """
    variance = np.round(score_variance(scores), 9)
    if np.isnan(variance).all():
        return None
    return int(np.random.default_rng(seed).choice(np.flatnonzero(variance == np.nanmax(variance))))


Rule = Literal["agreement", "strength"]


def compare_ensemble_members(
    rewards_chosen: ArrayLike, rewards_rejected: ArrayLike, *, rule: Rule, target: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Verdicts on members, over [pair, member, member], as `position_weights` and `count_verdicts` take them.

    Entry [i, m, n] is 1 where member m's verdict on pair i is better than n's, -1 where it is worse, 0 for a tie, NaN
    on the diagonal. Who is named first has no part in it: [i, n, m] = -[i, m, n].

    Args:
        rewards_chosen, rewards_rejected: [member, pair]; a member's verdict is its gap, of rewards on one scale.
        rule: "agreement": the verdict that agrees with the held-out label is better than one that does not, one
            without a preference stands between, and two that agree tie. "strength": the verdict under which the other
            members' preference is more likely is better; that preference is t = sigmoid(mean gap of all but m and n),
            and the likelihood t log sigmoid(gap) + (1 - t) log sigmoid(-gap).
        target: [pair], probability in [0, 1] that `chosen` is truly better, from labels that no member was trained
            on; for "agreement" alone, 1 where not given. Pairs of target 1/2 are ties.

    Raises `InputError` for shapes that do not fit, NaN, fewer than two members ("strength": three), and a target that
    the rule does not read.

    Not in arXiv 2407.19594, whose judges are language models; "strength" is voting as in arXiv 2401.06080, Eq. (4).
    """
    chosen = finite_array("rewards_chosen", rewards_chosen, ("member", "pair"))
    rejected = finite_array("rewards_rejected", rewards_rejected, ("member", "pair"))
    same_shape("rewards_rejected", rejected, "rewards_chosen", chosen)
    gaps = chosen - rejected
    members, pairs = gaps.shape
    least = 2 if rule == "agreement" else 3
    if members < least:
        raise_input_error(
            "members", f"at least {least} for the rule {rule}", members, "One verdict alone cannot be compared."
        )
    if rule == "strength" and target is not None:
        raise_input_error(
            "target", "none for the rule strength", Verbatim("one"), "It asks the other members, and no label."
        )
    labels = np.ones(pairs) if target is None else finite_array("target", target, ("pair",))
    if len(labels) != pairs or not ((labels >= 0) & (labels <= 1)).all():
        raise_input_error(
            "target", f"a probability for each of {pairs} pairs", Verbatim(f"shape {labels.shape}"), "Pass all of them."
        )
    verdicts = np.full((pairs, members, members), math.nan)
    agreed, total = np.sign(gaps) * np.sign(labels - 0.5), gaps.sum(axis=0)
    for first, second in itertools.combinations(range(members), 2):
        two = [first, second]
        credit = agreed[two]
        if rule == "strength":
            believed = expit((total - gaps[first] - gaps[second]) / (members - 2))
            credit = believed * log_expit(gaps[two]) + (1 - believed) * log_expit(-gaps[two])
        verdicts[:, first, second] = np.sign(credit[0] - credit[1])
        verdicts[:, second, first] = -verdicts[:, first, second]
    return verdicts
