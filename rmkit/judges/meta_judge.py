"""Meta-judging: which of two judgments of the same response is better, and which members of an ensemble are."""

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
from rmkit.judges.base import ORDERS, JudgeAnswer, Judgment, Messages, Order
from rmkit.judges.language_model import JudgeSampler, by_slot
from rmkit.judges.prompts import META_JUDGE_PROMPTS
from rmkit.judges.sanitize import quote, quote_messages


@dataclass(frozen=True)
class JudgmentSet:
    """Judgments, as text, of one response to one prompt."""

    prompt: Messages
    response: Messages
    judgments: Sequence[str]


class MetaJudge:
    """A language model that compares two judgments, always in both orders, `sampler.samples` times in each.

    prompt: the name of the prompt that the judgments answer, a key of `META_JUDGE_PROMPTS`.

    Source: Meta-Rewarding (arXiv 2407.19594), Section 2.3; the prompt is in the project's own words, and `Unparsed` is
    kept apart from a declared tie.
    """

    def __init__(self, sampler: JudgeSampler, prompt: str = "additive_5") -> None:
        self.sampler = sampler
        self.prompt = META_JUDGE_PROMPTS[prompt]

    def compare(self, sets: Sequence[JudgmentSet]) -> list[tuple[NDArray[np.float64], list[list[JudgeAnswer]]]]:
        """Compare every two judgments of each set in both orders: verdicts [judgment, judgment] and answers by set.

        Entry [m, n] is the verdict of the comparison in which m was shown first: 1 where m won, -1 where n did, 0 for a
        tie, NaN without a parsed answer and on the diagonal. With several samples, the sign of their mean. The answers
        are [pair][order * sample], of the pairs (0, 1), (0, 2), ...; scores are the preference for the pair's first.
        """
        answers = iter(self.sampler.query(
            [[self.render(each, pair, order) for order in ORDERS]
             for each in sets for pair in itertools.combinations(each.judgments, 2)],
            self.prompt,
        ))
        compared = []
        for each in sets:
            count = len(each.judgments)
            verdicts = np.full((count, count), math.nan)
            answers_of_set = []
            for m, n in itertools.combinations(range(count), 2):
                answers_of_set.append(next(answers))
                verdicts[m, n] = mean_verdict(answers_of_set[-1], "original")
                verdicts[n, m] = -mean_verdict(answers_of_set[-1], "swapped")
            compared.append((verdicts, answers_of_set))
        return compared

    def render(self, judged: JudgmentSet, pair: Sequence[str], order: Order) -> Messages:
        """The conversation that the meta-judge continues on two judgments of a set."""
        tokens = self.sampler.special_tokens
        return self.prompt.render(
            request=quote_messages(judged.prompt, tokens),
            response=quote_messages(judged.response, tokens),
            **by_slot([quote(judgment, tokens) for judgment in pair], order),
        )


def mean_verdict(answers: Iterable[JudgeAnswer], order: Order) -> float:
    """1 if the answers in this order prefer the first judgment on average, -1 the second, 0 neither; NaN for none."""
    leads = [answer.score - 0.5 for answer in answers if isinstance(answer, Judgment) and answer.order == order]
    return float(np.sign(round(sum(leads), 9))) if leads else math.nan  # the last digits depend on the order


def score_variance(scores: ArrayLike) -> NDArray[np.float64]:
    """Population variance of each response's scores, [.., response], from scores [.., response, judgment].

    NaN scores are left out; a response with fewer than two scores has NaN. Raises `InputError` for infinite scores and
    for an array without a judgment axis.

    Source: arXiv 2407.19594, Section 2.3, which does not say whether it divides by N or N - 1.
    """
    array = np.asarray(scores, dtype=np.float64)
    if not array.ndim or 0 in array.shape or np.isinf(array).any():
        raise_input_error(
            "scores", "numbers or NaN over [.., response, judgment]", Verbatim(f"shape {array.shape}"), "Check them."
        )
    enough = (~np.isnan(array)).sum(axis=-1) > 1
    return np.where(enough, np.nanvar(np.where(enough[..., None], array, 0.0), axis=-1), np.nan)


def highest_variance_response(scores: ArrayLike, *, seed: int) -> int | None:
    """Index of the response with the highest variance of `scores` [response, judgment], NaN for no score.

    Equal variances (to nine digits) are drawn between under `seed`; None where no response has two scores.
    Raises `InputError` as `score_variance` does.

    Source: arXiv 2407.19594, Section 2.3: the judgments of the response on which the judge is least certain are
    compared.
    """
    variance = np.round(score_variance(scores), 9)
    if np.isnan(variance).all():
        return None
    return int(np.random.default_rng(seed).choice(np.flatnonzero(variance == np.nanmax(variance))))


def compare_ensemble_members(
    rewards_chosen: ArrayLike, rewards_rejected: ArrayLike, *, rule: Literal["label", "leave_two_out"]
) -> NDArray[np.float64]:
    """Which of two members is better on a pair, [pair, member, member], as `wins_from_verdicts` takes it.

    Entry [i, m, n] is 1 where member m is better than n on pair i, -1 where it is worse, 0 for a tie, NaN on the
    diagonal; [i, n, m] = -[i, m, n].

    Args:
        rewards_chosen, rewards_rejected: [member, pair], on one scale; a member's verdict is its gap.
        rule: "label": the member that prefers `chosen` is better than one that does not, a gap of 0 stands between.
            "leave_two_out": the member under which the other members' preference is more likely is better; that
            preference is t = sigmoid(mean gap of all but m and n), and the log-likelihood
            t log sigmoid(gap) + (1 - t) log sigmoid(-gap).

    Raises `InputError` for shapes that do not fit, NaN, and fewer than two members ("leave_two_out": three).

    Not in arXiv 2407.19594, whose judges are language models; "leave_two_out" votes as in arXiv 2401.06080, Eq. (4).
    """
    chosen = finite_array("rewards_chosen", rewards_chosen, ("member", "pair"))
    rejected = finite_array("rewards_rejected", rewards_rejected, ("member", "pair"))
    same_shape("rewards_rejected", rejected, "rewards_chosen", chosen)
    gaps = chosen - rejected
    members, pairs = gaps.shape
    least = 2 if rule == "label" else 3
    if members < least:
        raise_input_error("members", f"at least {least} for the rule {rule}", members, "Add reward models.")
    verdicts = np.full((pairs, members, members), math.nan)
    total = gaps.sum(axis=0)
    for m, n in itertools.combinations(range(members), 2):
        pair = gaps[[m, n]]
        credit = np.sign(pair)
        if rule == "leave_two_out":
            target = expit((total - gaps[m] - gaps[n]) / (members - 2))
            credit = target * log_expit(pair) + (1 - target) * log_expit(-pair)
        verdicts[:, m, n] = np.sign(credit[0] - credit[1])
        verdicts[:, n, m] = -verdicts[:, m, n]
    return verdicts
