"""Ratings as arrays: battles to ratings, agreement, biases, accuracy, calibration, ranking and intervals.

numpy, scipy and scikit-learn alone. Verdicts are 1 (the first), -1 (the second), 0 (a tie) or NaN (none: not asked,
or an answer no one could read), and what is NaN is left out and counted, never taken for a tie.
"""

from rmkit.metrics.accuracy import PairAccuracy, pair_accuracy
from rmkit.metrics.agreement import (
    Agreement,
    Saturation,
    SelfConsistency,
    agreement,
    cohen_kappa,
    fleiss_kappa,
    score_saturation,
    self_consistency,
    show_percent,
)
from rmkit.metrics.battles import (
    Battles,
    PositionWeights,
    position_weights,
    win_matrix,
    wins_from_list,
    wins_from_verdicts,
)
from rmkit.metrics.bias import LengthBias, PositionBias, length_bias, position_bias
from rmkit.metrics.bradley_terry import Ratings, bradley_terry
from rmkit.metrics.calibration import (
    PreferenceCalibration,
    brier_score,
    calibration_error,
    log_loss,
    preference_calibration,
)
from rmkit.metrics.correlation import PromptCorrelation, auroc, kendall_tau, prompt_correlation, rank_correlation
from rmkit.metrics.leaderboard import League, rate_league
from rmkit.metrics.significance import Interval, bootstrap_interval, ratio_interval

__all__ = [
    "Agreement",
    "Battles",
    "Interval",
    "League",
    "LengthBias",
    "PairAccuracy",
    "PositionBias",
    "PositionWeights",
    "PreferenceCalibration",
    "PromptCorrelation",
    "Ratings",
    "Saturation",
    "SelfConsistency",
    "agreement",
    "auroc",
    "win_matrix",
    "bootstrap_interval",
    "bradley_terry",
    "brier_score",
    "calibration_error",
    "cohen_kappa",
    "wins_from_list",
    "wins_from_verdicts",
    "fleiss_kappa",
    "kendall_tau",
    "length_bias",
    "log_loss",
    "pair_accuracy",
    "position_bias",
    "position_weights",
    "preference_calibration",
    "prompt_correlation",
    "rank_correlation",
    "rate_league",
    "score_saturation",
    "self_consistency",
    "ratio_interval",
    "show_percent",
]
