"""The meta-rewarding loop: a policy is trained on its own judgments of its responses and of its judgments."""

import importlib
from typing import Any

HOMES = {"MetaRewardConfig": "config", "meta_reward": "loop", "replay_pairs": "pairs"}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"rmkit.meta_rewarding has no {name}; it has {', '.join(HOMES)}")
    return getattr(importlib.import_module(f"rmkit.meta_rewarding.{HOMES[name]}"), name)
