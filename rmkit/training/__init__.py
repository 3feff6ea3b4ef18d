"""Training: reward models, supervised fine-tuning, DPO and reinforcement learning."""
