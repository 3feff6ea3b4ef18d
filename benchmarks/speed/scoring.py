"""Scoring K responses to each prompt: rmkit's packed rows against transformers' pipeline, and how the cost grows in K.

    python -m benchmarks.speed.scoring --data hh_rlhf_test.jsonl.gz qa_feedback_dev.jsonl.gz \
        [--work runs/throughput_scoring] [--rounds 5]

One causal model (6 layers, hidden 256, random weights, fp32), one thread, from messages to rewards on both sides: for
rmkit `score_responses`, for the pipeline the rendered texts of `apply_chat_template`, prompt by prompt. The pipeline
runs as it comes (batches of 1) and with the batch size that was fastest on other prompts. A prompt's responses are its
own in the file and, up to K, those of other prompts that are nearest to their mean length in characters; conversations
of more than 1,024 tokens are left out. Sides take turns; ratios are medians of the rounds' ratios in processor time,
which other work on the machine disturbs least. A cell that is finished is kept in --work.
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedModel, PreTrainedTokenizerBase, pipeline

from benchmarks.shared.results import write_results
from benchmarks.shared.timing import Cells, Record, clock, compare, fit_line, take_median
from benchmarks.speed.prompts import MAX_LENGTH, SEED, Rows, fill_rows, read_prompts
from rmkit.data.chat_template import encode_rows, unwrap
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.models.scoring import score_responses
from rmkit.models.tiny import build_language_model, build_tokenizer

VOCABULARY = 8192
LEARNT = 300  # rows that the tokenizer is trained on
MODEL = {"hidden": 256, "layers": 6}
RESPONSES = 8
PROMPTS = {"hh_rlhf_test": 12, "qa_feedback_dev": 2}  # in a round
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
TUNED_ON = {"hh_rlhf_test": 6, "qa_feedback_dev": 1}  # prompts, other than those of the rounds
GROWTH = (2, 4, 8, 16, 32, 64)
GROWTH_DATA, GROWTH_RESPONSES, GROWTH_ROUNDS = "hh_rlhf_test", 64, 3  # responses in a round, over all prompts
TOLERANCE = 1e-5

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def name_data(path: Path) -> str:
    """A data file's name without its suffixes."""
    return path.name.removesuffix(".jsonl.gz")


def prepare(path: Path, work: Path) -> tuple[list[tuple[str, list[str]]], Loaded]:
    """A file's prompts, and a model with a tokenizer learnt on them."""
    prompts = read_prompts(path)
    folder = work / f"model-{path.name}"
    if not (folder / "model.safetensors").exists():
        tokenizer = build_tokenizer((text for prompt, own in prompts[:LEARNT] for text in (prompt, *own)), VOCABULARY)
        tokenizer.save_pretrained(folder)
        build_language_model(tokenizer, **MODEL, seed=SEED).save_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    return prompts, (load_reward_model(folder, tokenizer, seed=SEED).eval(), tokenizer)


def score_by_rmkit(loaded: Loaded, rows: Rows) -> list[float]:
    """Rewards of all responses."""
    model, tokenizer = loaded
    return [float(reward) for rewards in score_responses(model, tokenizer, Dataset.from_list(rows),
                                                         max_length=MAX_LENGTH) for reward in rewards]


def score_by_pipeline(loaded: Loaded, rows: Rows, batch_size: int) -> list[float]:
    """The same by transformers' pipeline."""
    model, tokenizer = loaded
    conversations = [[*row["prompt"], *response] for row in rows for response in row["responses"]]
    texts = tokenizer.apply_chat_template(conversations, tokenize=False)
    score = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    return [found["score"] for found in score(texts, batch_size=batch_size)]


def run_round(
    score: Callable[[Rows], list[float]], check: Callable[[Rows], list[float]], rounds: Sequence[Rows], number: int
) -> Record:
    """One side's seconds for a round's rows, and how far its rewards are from those of single conversations."""
    rows, found = rounds[number], list[float]()
    record = clock(lambda: found.extend(score(rows)))
    apart = np.abs(np.array(found) - check(rows)).max()
    assert apart <= TOLERANCE, f"rewards differ by {apart}"
    return {**record, "responses": len(found), "apart": float(apart), "spread": float(np.std(found))}


def contest(path: Path, work: Path, rounds: int) -> dict[str, Any]:
    """rmkit and the pipeline on one file."""
    prompts, loaded = prepare(path, work)
    draw = fill_rows(prompts, RESPONSES, loaded[1])
    name = name_data(path)
    count = PROMPTS[name]
    reference = Remembered(loaded)
    cells = Cells(work, [MODEL, RESPONSES, count, BATCH_SIZES, TUNED_ON[name], VOCABULARY], 1)
    others = draw(len(prompts) // 2, TUNED_ON[name])
    tuning = cells.run(f"tuning {name}", {
        str(size): partial(run_round, partial(score_by_pipeline, loaded, batch_size=size), reference, [others])
        for size in BATCH_SIZES
    })
    best = min(BATCH_SIZES, key=lambda size: tuning[str(size)][0]["cpu"])
    sides: dict[str, Callable[[Rows], list[float]]] = {
        "rmkit": partial(score_by_rmkit, loaded),
        "pipeline, defaults": partial(score_by_pipeline, loaded, batch_size=1),
        "pipeline, best": partial(score_by_pipeline, loaded, batch_size=best),
    }
    drawn = draw(0, rounds * count)
    cells = Cells(work, [MODEL, RESPONSES, count, best, rounds, VOCABULARY], rounds)
    parts = [drawn[start:start + count] for start in range(0, len(drawn), count)]
    records = cells.run(f"scoring {name}", {
        side: partial(run_round, score, reference, parts) for side, score in sides.items()
    })
    return {
        "prompts": count, "responses": RESPONSES, "batch_size": best,
        "tuning": {size: record[0]["cpu"] for size, record in tuning.items()},
        "sides": {side: describe(found) for side, found in records.items()},
        "ratios": {clock: {dear: compare(records, dear, "rmkit", clock)
                           for dear in ("pipeline, defaults", "pipeline, best")} for clock in ("cpu", "wall")},
        "apart": max(record["apart"] for found in records.values() for record in found),
        "spread": min(record["spread"] for found in records.values() for record in found),
    }


class Remembered:
    """Each batch of rows scored once, every conversation by itself: what both sides are held against."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.known: dict[str, list[float]] = {}

    def __call__(self, rows: Rows) -> list[float]:
        model, tokenizer = self.loaded
        key = json.dumps(rows)
        if key not in self.known:
            pairs = [(row["prompt"], row["responses"]) for row in rows]
            encoded = [one for group in encode_rows(tokenizer, pairs, MAX_LENGTH) for one in group]
            with torch.inference_mode():
                self.known[key] = [model(input_ids=torch.tensor([unwrap(one).input_ids])).logits.item()
                                   for one in encoded]
        return self.known[key]


def describe(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """A side's responses a second."""
    return {clock: take_median([{"rate": record["responses"] / record[clock]} for record in records], "rate")
            for clock in ("cpu", "wall")}


def grow_responses(path: Path, work: Path, batch_size: int) -> dict[str, Any]:
    """Seconds a response against the responses to a prompt, both sides; rmkit's cost is start + slope / K."""
    prompts, loaded = prepare(path, work)
    reference = Remembered(loaded)
    cost: dict[str, dict[str, float]] = {"rmkit": {}, "pipeline, best": {}}
    for responses in GROWTH:
        count = GROWTH_RESPONSES // responses
        drawn = fill_rows(prompts, responses, loaded[1])(0, GROWTH_ROUNDS * count)
        rounds = [drawn[start:start + count] for start in range(0, len(drawn), count)]
        sides = {"rmkit": partial(score_by_rmkit, loaded),
                 "pipeline, best": partial(score_by_pipeline, loaded, batch_size=batch_size)}
        cells = Cells(work, [MODEL, responses, count, batch_size, GROWTH_ROUNDS, VOCABULARY], GROWTH_ROUNDS)
        records = cells.run(f"growth {responses}", {
            side: partial(run_round, score, reference, rounds) for side, score in sides.items()
        })
        for side, found in records.items():
            seconds = [{"seconds": record["cpu"] / record["responses"]} for record in found]
            cost[side][str(responses)] = take_median(seconds, "seconds")
    shares = [1 / responses for responses in GROWTH]
    return {
        "data": path.name, "responses_in_a_round": GROWTH_RESPONSES, "rounds": GROWTH_ROUNDS,
        "responses_per_second": {side: {key: 1 / each for key, each in costs.items()} for side, costs in cost.items()},
        "fit": fit_line(shares, list(cost["rmkit"].values())),
    }


def measure(files: Sequence[Path], work: Path, rounds: int) -> dict[str, Any]:
    """All figures, computed where their cells are not there."""
    work.mkdir(parents=True, exist_ok=True)
    named = {name_data(path): path for path in files}
    contests = {name: contest(path, work, rounds) for name, path in named.items()}
    growth = grow_responses(named[GROWTH_DATA], work, contests[GROWTH_DATA]["batch_size"])
    return {"rounds": rounds, "model": MODEL, "contests": contests, "growth": growth}


def main() -> None:
    """Measure what is missing and write benchmarks/results/throughput_scoring.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs=2, required=True, help="hh_rlhf_test, qa_feedback_dev")
    parser.add_argument("--work", type=Path, default=Path("runs/throughput_scoring"), help="finished cells")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    disable_progress_bars()
    figures = measure(options.data, options.work, options.rounds)
    print(json.dumps(figures, indent=1))
    print(write_results("throughput_scoring", figures, seeds=[SEED]))


if __name__ == "__main__":
    main()
