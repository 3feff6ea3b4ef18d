"""Preferences as arrays: strength, repair, margin, planted noise and the noise rate. numpy and scipy alone."""

from rmkit.preferences.noise import NoiseRate, estimate_noise_rate, plant_noise
from rmkit.preferences.repair import RECIPES, Repair, adaptive_margin, repair
from rmkit.preferences.strength import Strength, calibrate_scale, preference_strength

__all__ = [
    "NoiseRate",
    "RECIPES",
    "Repair",
    "Strength",
    "adaptive_margin",
    "calibrate_scale",
    "estimate_noise_rate",
    "plant_noise",
    "preference_strength",
    "repair",
]
