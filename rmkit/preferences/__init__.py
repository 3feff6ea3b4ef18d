"""Preferences as arrays: strength, repair, margin, planted noise and the noise rate. numpy and scipy alone."""

from rmkit.preferences.noise import NoiseRate, estimate_noise_rate, sample_label_flips
from rmkit.preferences.repair import RECIPES, Repair, adaptive_margin, repair_labels
from rmkit.preferences.strength import Strength, calibrate_scale, preference_strength

__all__ = [
    "NoiseRate",
    "RECIPES",
    "Repair",
    "Strength",
    "adaptive_margin",
    "calibrate_scale",
    "estimate_noise_rate",
    "sample_label_flips",
    "preference_strength",
    "repair_labels",
]
