"""Training: the trainer for pairs, and what it needs around it."""

from rmkit.training.trainer import RewardConfig, RewardTrainer

__all__ = ["RewardConfig", "RewardTrainer"]
