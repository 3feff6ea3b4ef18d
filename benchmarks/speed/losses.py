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
print(middle - start, time.perf_counter() - middle)
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


def compare(ours: Step, other: Step, seconds: float) -> dict[str, float]:
    """Median milliseconds of both sides and the median of their ratios, over 5 to 2,000 repeats."""
    for step in (ours, other):
        step()
    times: list[dict[Step, float]] = []
    begin = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - begin < seconds and len(times) < 2000):
        order = (other, ours) if len(times) % 2 else (ours, other)
        times.append({step: 1e3 * clock(step)["cpu"] for step in order})
    return {
        "ours_ms": statistics.median(repeat[ours] for repeat in times),
        "other_ms": statistics.median(repeat[other] for repeat in times),
        "ratio": statistics.median(repeat[ours] / repeat[other] for repeat in times),
        "repeats": len(times),
    }


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
                record = {"loss": loss, "other": other, "batch": batch, "hidden": hidden}
                records.append(record | compare(ours, step, seconds))
                print(records[-1], flush=True)
    return records


def measure_import() -> dict[str, float]:
    """Median seconds of `import torch`, and of `import rmkit.losses` after it, in new interpreters."""
    runs = [tuple(map(float, subprocess.check_output([sys.executable, "-c", IMPORTS], text=True).split()))
            for _ in range(IMPORT_REPEATS)]
    return {
        "torch_s": statistics.median(torch_s for torch_s, _ in runs),
        "losses_s": statistics.median(losses_s for _, losses_s in runs),
        "ratio": statistics.median(losses_s / torch_s for torch_s, losses_s in runs),
        "repeats": IMPORT_REPEATS,
    }


def main() -> None:
    """Measure and write benchmarks/results/losses.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="per comparison; at least 5 repeats")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    figures = {"import": measure_import(), "prototypes": PROTOTYPES, "losses": measure_losses(options.seconds)}
    print(write_results("losses", figures, seeds=[SEED], packages=["pytorch-metric-learning"]))


if __name__ == "__main__":
    main()
