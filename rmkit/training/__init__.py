"""Training: the trainer for pairs, and what it needs around it."""

from rmkit.training.settings import RewardConfig
from rmkit.training.trainer import RewardTrainer

__all__ = ["RewardConfig", "RewardTrainer"]
