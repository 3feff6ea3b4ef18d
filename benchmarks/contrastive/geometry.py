"""What a contrastive term does to embeddings: how far two dropout views lie apart, how evenly all spread, what mixes.

The embedding of a response is the input of the reward model's head, brought to unit length.
"""

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize

from rmkit.data.chat_template import encode
from rmkit.models.scoring import load_scorer
from rmkit.training.contrastive import VARIANTS, ContrastiveObjective

RATE = 0.05  # of the dropout, as in training
NEIGHBOURS = 5


def embed(model_path: Path, pairs: Dataset, max_length: int) -> NDArray[np.float64]:
    """Unit embeddings [view, (chosen, rejected), pair, hidden] under dropout."""
    model, tokenizer = load_scorer(model_path)
    term = ContrastiveObjective(model, VARIANTS["simcse"], rate=RATE, seed=0)
    model.train()
    torch.manual_seed(0)
    found = []
    for side in ("chosen", "rejected") * 2:  # two views, one behind the other
        for pair in pairs:
            ids = encode(tokenizer, pair["prompt"], pair[side], max_length).input_ids
            with torch.no_grad():
                model(input_ids=torch.tensor([ids]))
            assert term.states is not None
            found.append(term.states.reshape(-1, term.states.shape[-1])[-1].double())  # of the last token, or pooled
    return normalize(torch.stack(found), dim=1).view(2, 2, len(pairs), -1).numpy()


def describe(embeddings: NDArray[np.float64]) -> dict[str, float]:
    """Figures of `embed`, the lower the more aligned, the more even, and the less mixed.

    alignment: mean squared distance of a response's two views. uniformity: log of the mean over pairs of responses of
    exp(-2 squared distance). Both from Wang and Isola, arXiv 2005.10242. overlap: twice the error with which the 5
    nearest responses of other pairs tell chosen from rejected: 1 where they are one cloud.
    """
    first, second = embeddings.reshape(2, -1, embeddings.shape[-1])
    count = embeddings.shape[2]
    sides, pairs = np.repeat([1, 0], count), np.tile(np.arange(count), 2)
    right = cross_val_score(KNeighborsClassifier(NEIGHBOURS), first, sides, groups=pairs, cv=GroupKFold(5)).mean()
    return {
        "alignment": float(np.square(first - second).sum(axis=1).mean()),
        "uniformity": float(np.log(np.exp(-2 * pdist(first, "sqeuclidean")).mean())),
        "overlap": 2 * (1 - float(right)),
    }
