"""Speed of the contrastive losses, and the cost of importing them: both sides in one run, measured in turns.

    python -m benchmarks.speed.losses [--seconds 4]

SimCSE is set against pytorch-metric-learning's SupConLoss (one direction, one positive each: the same number) and, for
small batches, NTXentLoss. SwAV is set against the six matrix products it cannot do without: two views by prototypes
forward, and backward one for each view and two for the prototypes. Every timing is forward and backward, float32, in
processor time of one thread, which other work on the machine disturbs least. A ratio is the median over repeats of
ours / other, the two run in turns and changing order.
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
from rmkit.losses import simcse_loss, swav_loss

SEED = 0
BATCHES = (32, 128, 512, 1024, 4096)
HIDDEN = (384, 4096)
PROTOTYPES = 50
NTXENT_MAX_BATCH = 128  # its table has batch**3 entries
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
    """pytorch-metric-learning's loss of this kind from the first view to the second, one positive each."""
    loss = kind(temperature=0.05)
    # One and the same tensor of labels for both would make the library drop the diagonal, that is, all positives.
    labels, ref_labels = (torch.arange(batch) for _ in range(2))
    return lambda a, b: loss(a, labels, ref_emb=b, ref_labels=ref_labels)


def multiply(views: list[torch.Tensor], prototypes: torch.Tensor) -> Step:
    """A step that runs SwAV's unavoidable matrix products and holds their results, as a loss and its gradients do."""
    upstream = torch.randn(len(views[0]), len(prototypes))

    @torch.no_grad()
    def run() -> list[torch.Tensor]:
        return [product for view in views
                for product in (view @ prototypes.T, upstream @ prototypes, upstream.T @ view)]

    return run


def compare(ours: Step, other: Step, seconds: float) -> dict[str, float]:
    """Median milliseconds of both and the median of the paired ratios."""
    def clock(step: Step) -> float:
        start = time.process_time()
        step()
        return 1e3 * (time.process_time() - start)

    for step in (ours, other):
        clock(step)
    times: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - begin < seconds and len(times) < 2000):
        if len(times) % 2:
            second, first = clock(other), clock(ours)
        else:
            first, second = clock(ours), clock(other)
        times.append((first, second))
    return {
        "ours_ms": statistics.median(first for first, _ in times),
        "other_ms": statistics.median(second for _, second in times),
        "ratio": statistics.median(first / second for first, second in times),
        "repeats": len(times),
    }


def measure_losses(seconds: float) -> list[dict[str, object]]:
    """One record per loss, other side, batch size and hidden size."""
    records = []
    for hidden in HIDDEN:
        for batch in BATCHES:
            a, b = (torch.randn(batch, hidden, requires_grad=True) for _ in range(2))
            prototypes = torch.randn(PROTOTYPES, hidden, requires_grad=True)
            contests = {
                ("simcse", "SupConLoss"): differentiate(one_directional(SupConLoss, batch), a, b),
                ("simcse", "NTXentLoss"): differentiate(one_directional(NTXentLoss, batch), a, b),
                ("swav", "matrix products"): multiply([a, b], prototypes),
            }
            ours = {"simcse": differentiate(simcse_loss, a, b), "swav": differentiate(swav_loss, a, b, prototypes)}
            for (loss, other), step in contests.items():
                if other == "NTXentLoss" and batch > NTXENT_MAX_BATCH:
                    continue
                figures = compare(ours[loss], step, seconds)
                records.append({"loss": loss, "other": other, "batch": batch, "hidden": hidden, **figures})
                print("{loss:7} {other:16} batch {batch:5} hidden {hidden:5}  ours {ours_ms:9.3f} ms  "
                      "other {other_ms:9.3f} ms  ratio {ratio:.3f}".format(**records[-1]), flush=True)
    return records


def measure_import(repeats: int = 9) -> dict[str, float]:
    """Median seconds of `import torch` and of `import rmkit.losses` after it, in fresh interpreters."""
    runs = [subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True).stdout.split()
            for _ in range(repeats)]
    torch_s, losses_s = (statistics.median(float(run[side]) for run in runs) for side in (0, 1))
    ratio = statistics.median(float(run[1]) / float(run[0]) for run in runs)
    print(f"import torch {torch_s:.3f} s, rmkit.losses on top {losses_s:.4f} s, ratio {ratio:.4f}")
    return {"torch_s": torch_s, "losses_s": losses_s, "ratio": ratio, "repeats": repeats}


def main() -> None:
    """Measure, print and write benchmarks/results/losses.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="per comparison; at least 5 repeats")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    figures = {"import": measure_import(), "prototypes": PROTOTYPES, "losses": measure_losses(options.seconds)}
    print(write_results("losses", figures, seeds=[SEED], packages=["pytorch-metric-learning"]))


if __name__ == "__main__":
    main()
