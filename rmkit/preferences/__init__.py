"""Preferences as arrays: strength, repair, margin, planted noise and the noise rate. numpy and scipy alone."""

from rmkit.preferences.margin import adaptive_margin
from rmkit.preferences.noise import plant_noise
from rmkit.preferences.rate import NoiseRate, estimate_noise_rate
from rmkit.preferences.repair import RECIPES, Repair, repair
from rmkit.preferences.scale import calibrate_scale
from rmkit.preferences.strength import Strength, preference_strength

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
