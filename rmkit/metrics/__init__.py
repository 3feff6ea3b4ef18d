"""Metrics over arrays: ratings from comparisons, agreement, biases, accuracy, calibration, correlation, intervals.

They need numpy, scipy and scikit-learn. Verdicts are 1 (the first), -1 (the second), 0 (a tie) or NaN (none: not asked
for, or not parsed); NaN is left out and counted, and never a tie.
"""

from rmkit.metrics.accuracy import PairAccuracy, pair_accuracy
from rmkit.metrics.agreement import (
    Agreement,
    Saturation,
    SelfConsistency,
    agreement,
    score_saturation,
    self_consistency,
)
from rmkit.metrics.battles import PositionWeights, position_weights, win_matrix, wins_from_list, wins_from_verdicts
from rmkit.metrics.best_of_n import best_of_n
from rmkit.metrics.bias import LengthBias, PositionBias, length_bias, position_bias
from rmkit.metrics.bradley_terry import Ratings, bradley_terry
from rmkit.metrics.calibration import (
    PreferenceCalibration,
    brier_score,
    calibration_error,
    log_loss,
    preference_calibration,
)
from rmkit.metrics.correlation import PromptCorrelation, auroc, prompt_correlation, rank_correlation
from rmkit.metrics.length_control import ControlledRate, alpaca_rate, length_controlled_rate
from rmkit.metrics.significance import Interval, bootstrap_interval, mcnemar, ratio_interval

__all__ = [
    "Agreement", "ControlledRate", "Interval", "LengthBias", "PairAccuracy", "PositionBias", "PositionWeights",
    "PreferenceCalibration", "PromptCorrelation", "Ratings", "Saturation", "SelfConsistency", "agreement",
    "alpaca_rate", "auroc", "best_of_n", "bootstrap_interval", "bradley_terry", "brier_score", "calibration_error",
    "length_bias", "length_controlled_rate", "log_loss", "mcnemar", "pair_accuracy", "position_bias",
    "position_weights", "preference_calibration", "prompt_correlation", "rank_correlation", "ratio_interval",
    "score_saturation", "self_consistency", "win_matrix", "wins_from_list", "wins_from_verdicts",
]
