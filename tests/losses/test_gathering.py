"""Two processes with half a batch each equal one process with the whole: values, and gradients as DDP averages them."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from rmkit.losses import preference_embeddings, simcse_loss, swav_loss

SECONDS = 120
PAIRS, HIDDEN = 4, 5
CASES = [(name, kind) for name in ("simcse", "swav") for kind in ("pair", "difference")]


class Embedder(torch.nn.Module):
    """A linear map of two noisy views of pairs, with prototypes, to one of the contrastive losses."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(HIDDEN, HIDDEN, generator=generator, dtype=torch.float64))
        self.prototypes = torch.nn.Parameter(torch.randn(3, HIDDEN, generator=generator, dtype=torch.float64))

    def forward(self, features, name, kind):
        views = [preference_embeddings(*(view @ self.weight).unbind(dim=1), kind) for view in features]
        # A product with zero gives prototypes the gradient zero in SimCSE: DDP wants one for every parameter.
        return simcse_loss(*views) + 0 * self.prototypes.sum() if name == "simcse" else swav_loss(
            *views, self.prototypes)


def draw_features():
    """[view, pair, response, hidden]"""
    return torch.randn(2, PAIRS, 2, HIDDEN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def differentiate(model, features, name, kind):
    model.zero_grad()
    loss = model(features, name, kind)
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]


def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    model = DistributedDataParallel(Embedder())
    half = draw_features()[:, rank * PAIRS // 2:(rank + 1) * PAIRS // 2]
    results = {}
    for name, kind in CASES:
        loss, gradients = differentiate(model, half, name, kind)
        dist.all_reduce(loss)
        results[name, kind] = loss / 2, gradients
    try:
        simcse_loss(*draw_features()[:, :rank + 1].flatten(1, 2))
    except ValueError as error:
        results["unequal"] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    del model  # before the process group it reduces over
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("gathering")
    processes = mp.spawn(work, (str(folder),), nprocs=2, join=False)
    try:
        processes.join(timeout=SECONDS)  # until the first has ended; raises what it raised
        assert processes.join(timeout=SECONDS), f"no result within {SECONDS} s"
    finally:
        for process in processes.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_two_processes_equal_one(ranks, name, kind):
    loss, gradients = differentiate(Embedder(), draw_features(), name, kind)
    for results in ranks:
        torch.testing.assert_close(results[name, kind][0], loss, atol=1e-12, rtol=1e-12)
        for of_two, of_one in zip(results[name, kind][1], gradients, strict=True):
            torch.testing.assert_close(of_two, of_one, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_halves_by_themselves_do_not(name, kind):
    """The equality above is the gathering's doing."""
    whole, gradients = differentiate(Embedder(), draw_features(), name, kind)
    halves = [differentiate(Embedder(), half, name, kind) for half in draw_features().split(PAIRS // 2, dim=1)]
    assert abs(sum(loss for loss, _ in halves) / 2 - whole) > 1e-3
    assert (sum(gradients[0] for _, gradients in halves) / 2 - gradients[0]).abs().max() > 1e-3


def test_unequal_batches_are_refused_everywhere(ranks):
    for results in ranks:
        assert "batch: expected as many rows on every process, got [2, 4] by rank" in results["unequal"]
