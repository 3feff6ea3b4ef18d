"""Training: the trainer for pairs, and what it needs around it."""

from rmkit.training.config import RewardConfig
from rmkit.training.reward_trainer import RewardTrainer

__all__ = ["RewardConfig", "RewardTrainer"]
