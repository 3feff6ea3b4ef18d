"""Seeds: one number given by the user, from which every random choice derives its own seed."""

import hashlib
import random


def derive_seed(seed: int, *names: object) -> int:
    """A seed in [0, 2**31) for the purpose that `names` spell out.

    Two purposes get unrelated seeds even when their base seeds are neighbours, which `seed + i` does not give:
    member 1 of a run with seed 0 must not be member 0 of a run with seed 1.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (every device)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
