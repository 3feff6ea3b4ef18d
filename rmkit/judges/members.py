"""The meta-judge of reward models: which of two members' verdicts on a pair of responses is the better one."""

import itertools
import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Seen, refuse

Rule = Literal["agreement", "strength"]


def compare_members(
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
        refuse("members", f"at least {least} for the rule {rule}", members, "One verdict alone cannot be compared.")
    if rule == "strength" and target is not None:
        refuse("target", "none for the rule strength", Seen("one"), "It asks the other members, and no label.")
    labels = np.ones(pairs) if target is None else finite_array("target", target, ("pair",))
    if len(labels) != pairs or not ((labels >= 0) & (labels <= 1)).all():
        refuse("target", f"a probability for each of {pairs} pairs", Seen(f"shape {labels.shape}"), "Pass all of them.")
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
