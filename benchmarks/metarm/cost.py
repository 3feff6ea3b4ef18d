"""What MetaRM's ascent costs: time and peak memory of a step with it against a plain one, in turns in one run.

    python -m benchmarks.metarm.cost [--of memory time] [--work runs/metarm_cost]

A full ascent sees as many sequences as the pairs of a step have, all of one length; a quarter one a quarter of its
prompts.
`paper` takes as many prompts as pairs with 5 responses each, and stands against a plain step with as many sequences.
Time is the process' own CPU time on one thread, the median over rounds in which every arm trains. Memory is what torch
has allocated at the highest point of a training, followed by its profiler, in a process of its own for each figure.
What is finished is kept in --work and not measured again.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

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
AGAINST = {"paper": "plain, as many sequences"}
TIME_SHAPE = (256, 2)  # hidden, layers
MEMORY_SHAPE = (256, 6)
MEMORY_STEPS = 2
MEMORY_ARMS = ("plain", "full")
ENGINES: tuple[int | None, ...] = (None, 2, 3)


def write_text(number: int) -> str:
    """`WORDS` words, which differ from number to number."""
    return " ".join(f"w{(number * 7 + place * (number % 5 + 1)) % 90}" for place in range(WORDS))


def ask(number: int) -> list[dict[str, str]]:
    """A prompt."""
    return [{"role": "user", "content": write_text(number)}]


def answer(number: int) -> list[dict[str, str]]:
    """A response."""
    return [{"role": "assistant", "content": write_text(1000 + number)}]


def build_base(folder: Path, shape: tuple[int, int]) -> None:
    """A model and a tokenizer that has every word as one token."""
    tokenizer = build_tokenizer([f"w{number}" for number in range(90)] * 3, vocabulary=400)
    tokenizer.save_pretrained(folder)
    build_language_model(tokenizer, hidden=shape[0], layers=shape[1], seed=SEED).save_pretrained(folder)


class Clock(TrainerCallback):
    """CPU seconds of each step."""

    def __init__(self) -> None:
        self.began = 0.0
        self.seconds: list[float] = []

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start."""
        self.began = time.process_time()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop."""
        self.seconds.append(time.process_time() - self.began)


def build_trainer(
    base: Path, tokenizer: PreTrainedTokenizerBase, arm: str, steps: int = STEPS, **settings: Any
) -> RewardTrainer:
    """A trainer of one arm for so many steps."""
    pairs, prompts, responses, every = ARMS[arm]
    meta: dict[str, Any] = {}
    if prompts:
        settings |= {"meta_learning_rate": 1e-3, "meta_batch_size": prompts, "meta_steps": every}
        rows = [{"prompt": ask(row), "responses": [answer(row * 9 + one) for one in range(responses)]}
                for row in range(steps * prompts)]
        meta["meta_dataset"] = Dataset.from_list(rows)
    rows = [{"prompt": ask(row), "chosen": answer(2 * row), "rejected": answer(2 * row + 1)}
            for row in range(steps * pairs)]
    arguments = RewardConfig(
        output_dir=str(base), use_cpu=True, max_steps=steps, per_device_train_batch_size=pairs, max_length=1024,
        save_strategy="no", disable_tqdm=True, report_to="none", seed=SEED, **settings,
    )
    return RewardTrainer(load_reward_model(base, tokenizer, seed=SEED), arguments, processing_class=tokenizer,
                         train_dataset=Dataset.from_list(rows), **meta)


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
    """CPU seconds of each arm, and each against its plain one: the medians over rounds."""
    name = "packed" if packing else "padded"
    rounds = [
        keep(work / f"{name}-{number}.json", lambda: measure_round(work / name, packing))
        for number in tqdm(range(ROUNDS), f"Rounds, {name}")
    ]
    ratios = {
        arm: [seconds[arm] / seconds[AGAINST.get(arm, "plain")] for seconds in rounds] for arm in ARMS if ARMS[arm][1]
    }
    return {
        "seconds": {arm: statistics.median(seconds[arm] for seconds in rounds) for arm in ARMS},
        "ratio": {arm: {"median": statistics.median(values), "values": values} for arm, values in ratios.items()},
    }


def measure_memory(base: Path, arm: str, stage: int | None) -> dict[str, int]:
    """Bytes of tensors that training takes at its highest point beside the model, and those of the parameters."""
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
    """Peak memory of each arm over the plain step's, in float32 copies of the parameters, by engine."""
    base = work / "memory"
    build_base(base, MEMORY_SHAPE)
    found: dict[str, Any] = {}
    for stage in tqdm(ENGINES, "Engines"):
        name = "torch" if stage is None else f"stage {stage}"
        peaks = {}
        for arm in MEMORY_ARMS:
            def measure(arm: str = arm, stage: int | None = stage) -> dict[str, int]:
                with multiprocessing.get_context("fork").Pool(1) as pool:
                    return pool.apply(measure_memory, (base, arm, stage))

            peaks[arm] = keep(work / f"memory-{name}-{arm}.json", measure)
        plain = peaks["plain"]
        found[name] = {
            "copy": plain["copy"], "plain": plain["peak"],
            "more": {arm: (peaks[arm]["peak"] - plain["peak"]) / plain["copy"] for arm in MEMORY_ARMS[1:]},
        }
    return found


def main() -> None:
    """Measure, and write results/metarm_cost.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs="+", choices=("memory", "time"), default=["memory", "time"])
    parser.add_argument("--work", type=Path, default=Path("runs/metarm_cost"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    figures: dict[str, Any] = {
        "arms": {arm: dict(zip(("pairs", "prompts", "responses", "every"), sizes, strict=True))
                 for arm, sizes in ARMS.items()},
        "rounds": ROUNDS, "words": WORDS, "shape": TIME_SHAPE, "memory_shape": MEMORY_SHAPE,
    }
    if "memory" in options.of:  # first: its processes are forked from one that has started no engine
        figures["memory"] = compare_memory(options.work)
    if "time" in options.of:
        figures["time"] = {name: compare_times(options.work, name == "packed") for name in ("packed", "padded")}
    print(write_results("metarm_cost", figures, seeds=[SEED]))


if __name__ == "__main__":
    main()
