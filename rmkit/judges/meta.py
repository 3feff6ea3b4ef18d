"""The meta-judge: which of two judgments of the same response is the better one, by a language model."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmkit.judges.judgment import PREFERENCE, Given, Judgment, Messages, Order
from rmkit.judges.language_model import Asking, join_orders, place
from rmkit.judges.prompts import META_QUESTIONS
from rmkit.judges.quotation import quote, quote_messages


@dataclass(frozen=True)
class Contest:
    """Two judgments, as text, of one response to one prompt."""

    prompt: Messages
    response: Messages
    judgments: tuple[str, str]


@dataclass(frozen=True)
class Dispute:
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

    def __init__(self, asking: Asking, rule: str = "rubric") -> None:
        self.asking = asking
        self.question = META_QUESTIONS[rule]

    def compare(self, contests: Sequence[Contest]) -> list[list[Given]]:
        """The answers to each contest, [contest][order * sample]; scores are the preference for the first as given."""
        orders: tuple[Order, ...] = ("given", "swapped")
        asked = [(self.show(contest, order), order) for contest in contests for order in orders]
        return join_orders(self.asking.put(asked, self.question), len(orders))

    def show(self, contest: Contest, order: Order) -> Messages:
        """The conversation in which a contest is put to the meta-judge."""
        tokens = self.asking.tokens
        return self.question.ask(
            request=quote_messages(contest.prompt, tokens),
            response=quote_messages(contest.response, tokens),
            **place([quote(judgment, tokens) for judgment in contest.judgments], order),
        )

    def battle(
        self, prompt: Messages, response: Messages, judgments: Sequence[str]
    ) -> tuple[NDArray[np.float64], list[list[Given]]]:
        """`battle_each` of one dispute."""
        return self.battle_each([Dispute(prompt, response, judgments)])[0]

    def battle_each(self, disputes: Sequence[Dispute]) -> list[tuple[NDArray[np.float64], list[list[Given]]]]:
        """Every pair of a response's N judgments in both orders: verdicts [judgment, judgment], and the answers.

        Entry [m, n] is that of the comparison in which m was shown first: 1 where m won, -1 where n did, 0 for a tie,
        NaN where no answer can be read and on the diagonal. With several samples, the sign of their mean. The answers
        are those of the pairs (0, 1), (0, 2), ..., as `compare` gives them.
        """
        pairs = [list(itertools.combinations(range(len(own.judgments)), 2)) for own in disputes]
        answers = iter(self.compare([
            Contest(own.prompt, own.response, (own.judgments[m], own.judgments[n]))
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
