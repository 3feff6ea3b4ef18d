"""Speed of the contrastive losses, forward and backward in float32, and the cost of importing them.

    python -m benchmarks.speed.losses [--seconds 4]

SimCSE beside pytorch-metric-learning's SupConLoss (one direction, one positive each: the same value) and, for small
batches, NTXentLoss. SwAV beside its six matrix products: each of two views by the prototypes, forward and twice
backward. The sides alternate in processor time of one thread; a ratio is the median of ours / other over repeats.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

from benchmarks.shared.results import write_results
from benchmarks.shared.timing import clock
from rmkit.losses import simcse_loss, swav_loss

SEED = 0
BATCHES = (32, 128, 512, 1024, 4096)
HIDDEN = (384, 4096)
PROTOTYPES = 50
NTXENT_MAX_BATCH = 128  # its table has batch**3 entries
IMPORT_REPEATS = 9
IMPORTS = """
import time
start = time.perf_counter(); import torch
middle = time.perf_counter(); import rmkit.losses
print((time.perf_counter() - middle) / (middle - start))
"""

Step = Callable[[], object]


def differentiate(loss: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Step:
    """A step that runs `loss` and its backward pass."""
    return lambda: torch.autograd.grad(loss(*inputs), inputs)


def one_directional(kind: type, batch: int) -> Callable[..., torch.Tensor]:
    """pytorch-metric-learning's loss from the first view to the second, one positive each."""
    loss = kind(temperature=0.05)
    labels, ref_labels = (torch.arange(batch) for _ in range(2))  # with one tensor for both it drops the positives
    return lambda a, b: loss(a, labels, ref_emb=b, ref_labels=ref_labels)


def multiply(views: list[torch.Tensor], prototypes: torch.Tensor) -> Step:
    """A step that runs SwAV's matrix products and keeps their results, as the loss and its gradients do."""
    upstream = torch.randn(len(views[0]), len(prototypes))

    @torch.no_grad()
    def run() -> list[torch.Tensor]:
        return [product for view in views
                for product in (view @ prototypes.T, upstream @ prototypes, upstream.T @ view)]

    return run


def compare(ours: Step, other: Step, seconds: float) -> float:
    """Median of ours / other in processor time, over 5 to 2,000 repeats."""
    for step in (ours, other):
        step()
    ratios: list[float] = []
    begin = time.perf_counter()
    while len(ratios) < 5 or (time.perf_counter() - begin < seconds and len(ratios) < 2000):
        times = {step: clock(step)["cpu"] for step in ((other, ours) if len(ratios) % 2 else (ours, other))}
        ratios.append(times[ours] / times[other])
    return statistics.median(ratios)


def measure_losses(seconds: float) -> list[dict[str, object]]:
    """One record per loss, other side, batch size and hidden size."""
    records = []
    for hidden in HIDDEN:
        for batch in BATCHES:
            a, b = (torch.randn(batch, hidden, requires_grad=True) for _ in range(2))
            prototypes = torch.randn(PROTOTYPES, hidden, requires_grad=True)
            simcse, swav = differentiate(simcse_loss, a, b), differentiate(swav_loss, a, b, prototypes)
            sides = [("simcse", "SupConLoss", simcse, differentiate(one_directional(SupConLoss, batch), a, b))]
            if batch <= NTXENT_MAX_BATCH:
                sides.append(("simcse", "NTXentLoss", simcse, differentiate(one_directional(NTXentLoss, batch), a, b)))
            sides.append(("swav", "matrix products", swav, multiply([a, b], prototypes)))
            for loss, other, ours, step in sides:
                records.append({"loss": loss, "other": other, "batch": batch, "hidden": hidden,
                                "ratio": compare(ours, step, seconds)})
                print(records[-1], flush=True)
    return records


def measure_import() -> float:
    """Median over new interpreters: the time of `import rmkit.losses` after `import torch`, relative to torch's."""
    return statistics.median(float(subprocess.check_output([sys.executable, "-c", IMPORTS]))
                             for _ in range(IMPORT_REPEATS))


def main() -> None:
    """Measure and write benchmarks/results/losses.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="per comparison; at least 5 repeats")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    figures = {"import": {"ratio": measure_import()}, "losses": measure_losses(options.seconds)}
    print(write_results("losses", figures, seeds=[SEED], packages=["pytorch-metric-learning"]))


if __name__ == "__main__":
    main()
