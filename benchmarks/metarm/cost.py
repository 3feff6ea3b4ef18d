"""What MetaRM's ascent costs: time and peak memory of a step with it relative to a plain step.

    python -m benchmarks.metarm.cost [--work runs/metarm_cost]

A full ascent has as many sequences as the pairs of a step, all of the same length; a quarter ascent a quarter of its
prompts. `paper` has as many prompts as pairs with 5 responses each, and is compared with a plain step of as many
sequences. Time is CPU time on one thread, the median over rounds in which every arm trains in turn. Memory is the peak
of torch's allocations during a training, from its profiler, each in a process of its own. Finished figures are kept in
--work.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from benchmarks.label_repair.data import message
from benchmarks.shared.results import keep, write_results
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.models.tiny import build_language_model, build_tokenizer
from rmkit.training.reward_trainer import RewardConfig, RewardTrainer
from rmkit.training.zero import deepspeed_environment, default_config

SEED = 0
ROUNDS = 5
PAIRS = 8
STEPS = 5  # the first one, which makes the optimizer's state, is not counted
WORDS = 60  # in a prompt, and in a response
# pairs of a step, prompts of its ascent, responses to each, steps from one ascent to the next
ARMS = {
    "plain": (PAIRS, 0, 0, 1),
    "full": (PAIRS, 4, 4, 1),
    "quarter": (PAIRS, 1, 4, 1),
    "full, each 4th step": (PAIRS, 4, 4, 4),
    "paper": (PAIRS, PAIRS, 5, 1),
    "plain, as many sequences": (28, 0, 0, 1),
}
BASELINES = {"paper": "plain, as many sequences"}
TIME_SHAPE = (256, 2)  # hidden, layers
MEMORY_SHAPE = (256, 6)
MEMORY_STEPS = 2
ENGINES = {"torch": None, "stage 2": 2, "stage 3": 3}


def write_text(number: int) -> str:
    """`WORDS` words, which differ from number to number."""
    return " ".join(f"w{(number * 7 + index * (number % 5 + 1)) % 90}" for index in range(WORDS))


def prompt_and_responses(prompt: int, *responses: int) -> list[list[dict[str, str]]]:
    """A prompt and responses to it, each a conversation of one message, whose texts are named by numbers."""
    return [message("user", write_text(prompt)),
            *(message("assistant", write_text(1000 + response)) for response in responses)]


def build_base(folder: Path, shape: tuple[int, int]) -> None:
    """A model, and a tokenizer in which every word is one token."""
    tokenizer = build_tokenizer([f"w{number}" for number in range(90)] * 3, vocabulary=400)
    tokenizer.save_pretrained(folder)
    build_language_model(tokenizer, hidden=shape[0], layers=shape[1], seed=SEED).save_pretrained(folder)


class Clock(TrainerCallback):
    """CPU seconds of each step."""

    def __init__(self) -> None:
        self.start = 0.0
        self.seconds: list[float] = []

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start."""
        self.start = time.process_time()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop."""
        self.seconds.append(time.process_time() - self.start)


def build_trainer(
    base: Path, tokenizer: PreTrainedTokenizerBase, arm: str, steps: int = STEPS, **settings: Any
) -> RewardTrainer:
    """A trainer of one arm for so many steps."""
    pairs, prompts, responses, every = ARMS[arm]
    meta: dict[str, Any] = {}
    if prompts:
        settings |= {"meta_learning_rate": 1e-3, "meta_batch_size": prompts, "meta_steps": every}
        texts = [prompt_and_responses(row, *range(row * 9, row * 9 + responses)) for row in range(steps * prompts)]
        meta["meta_dataset"] = Dataset.from_list([{"prompt": prompt, "responses": rest} for prompt, *rest in texts])
    texts = [prompt_and_responses(row, 2 * row, 2 * row + 1) for row in range(steps * pairs)]
    train_dataset = Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in texts])
    arguments = RewardConfig(
        output_dir=str(base), use_cpu=True, max_steps=steps, per_device_train_batch_size=pairs, max_length=1024,
        save_strategy="no", disable_tqdm=True, report_to="none", seed=SEED, **settings,
    )
    return RewardTrainer(load_reward_model(base, tokenizer, seed=SEED), arguments, processing_class=tokenizer,
                         train_dataset=train_dataset, **meta)


def measure_round(base: Path, packing: bool) -> dict[str, float]:
    """CPU seconds of a step of each arm, one training after the other."""
    build_base(base, TIME_SHAPE)
    tokenizer = load_tokenizer(base)
    seconds = {}
    with deepspeed_environment():
        for arm in tqdm(ARMS, "Arms"):
            trainer, clock = build_trainer(base, tokenizer, arm, packing=packing), Clock()
            trainer.add_callback(clock)
            trainer.train()
            seconds[arm] = statistics.fmean(clock.seconds[1:])
    return seconds


def compare_times(work: Path, packing: bool) -> dict[str, Any]:
    """Of each arm with an ascent: the CPU time of a step relative to a plain step, by round and as the median."""
    name = "packed" if packing else "padded"
    rounds = [
        keep(work / f"{name}-{number}.json", lambda: measure_round(work / name, packing))
        for number in tqdm(range(ROUNDS), f"Rounds, {name}")
    ]
    ratios = {
        arm: [seconds[arm] / seconds[BASELINES.get(arm, "plain")] for seconds in rounds] for arm in ARMS if ARMS[arm][1]
    }
    return {"ratio": {arm: {"median": statistics.median(values), "values": values} for arm, values in ratios.items()}}


def measure_memory(base: Path, arm: str, stage: int | None) -> dict[str, int]:
    """Peak bytes of tensors that training allocates beside the model, and bytes of a float32 copy of its parameters."""
    with deepspeed_environment(), TemporaryDirectory() as folder:
        zero = None if stage is None else default_config(stage)  # type: ignore[arg-type]
        trainer = build_trainer(base, load_tokenizer(base), arm, MEMORY_STEPS, deepspeed=zero)
        count = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in trainer.model.parameters())
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            trainer.train()
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    peak = max(event["args"]["Total Allocated"] for event in events if event["name"] == "[memory]")
    return {"peak": peak, "copy": 4 * count}


def compare_memory(work: Path) -> dict[str, Any]:
    """Extra peak memory of a full ascent over the plain step, in float32 copies of the parameters, by engine."""
    base = work / "memory"
    build_base(base, MEMORY_SHAPE)

    def measure(arm: str, stage: int | None) -> dict[str, int]:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.apply(measure_memory, (base, arm, stage))

    figures: dict[str, Any] = {}
    for name, stage in tqdm(ENGINES.items(), "Engines"):
        plain, full = (keep(work / f"memory-{name}-{arm}.json", partial(measure, arm, stage))
                       for arm in ("plain", "full"))
        figures[name] = {"more": {"full": (full["peak"] - plain["peak"]) / plain["copy"]}}
    return figures


def main() -> None:
    """Measure, and write results/metarm_cost.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/metarm_cost"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    memory = compare_memory(options.work)  # first: its processes must be forked before an engine starts
    times = {name: compare_times(options.work, name == "packed") for name in ("packed", "padded")}
    print(write_results("metarm_cost", {"memory": memory, "time": times}, seeds=[SEED]))


if __name__ == "__main__":
    main()
