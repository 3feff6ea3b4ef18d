"""Scoring speed on K responses to each prompt: rmkit's packed rows beside transformers' pipeline.

One causal model (6 layers, hidden 256, random weights, fp32) scores messages. rmkit uses `score_responses`; the
pipeline gets the texts of `apply_chat_template`, with batches of 1 and with the batch size that is fastest on other
prompts. `benchmarks.speed.throughput` runs this.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, pipeline

from benchmarks.shared.timing import Cells, Record, clock, compare, fit_line, take_median
from benchmarks.speed.data import (
    MAX_LENGTH, SEED, TOKENIZER_ROWS, VOCABULARY, Prompt, Rows, read_prompts, sample_rows,
)
from rmkit.data.chat_template import encode_rows, unwrap
from rmkit.models.reward_model import load_reward_model, load_tokenizer
from rmkit.models.scoring import score_responses
from rmkit.models.tiny import build_language_model, build_tokenizer

MODEL = {"hidden": 256, "layers": 6}
RESPONSES = 8
PROMPTS = {"hh_rlhf_test": 12, "qa_feedback_dev": 2}  # per round
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
TUNING_PROMPTS = {"hh_rlhf_test": 6, "qa_feedback_dev": 1}  # for choosing the batch size
GROWTH = (2, 4, 8, 16, 32, 64)  # responses to a prompt
GROWTH_DATA, GROWTH_RESPONSES, GROWTH_ROUNDS = "hh_rlhf_test", 64, 3  # responses per round over all prompts
TOLERANCE = 1e-5

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]
Score = Callable[[Rows], Sequence[float]]


def load(path: Path, work: Path) -> tuple[list[Prompt], Loaded]:
    """The prompts of a file, and a random model with a tokenizer that was trained on them."""
    prompts = read_prompts(path)
    folder = work / f"model-{path.name}"
    if not (folder / "model.safetensors").exists():
        texts = (text for prompt, own in prompts[:TOKENIZER_ROWS] for text in (prompt, *own))
        tokenizer = build_tokenizer(texts, VOCABULARY)
        tokenizer.save_pretrained(folder)
        build_language_model(tokenizer, **MODEL, seed=SEED).save_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    return prompts, (load_reward_model(folder, tokenizer, seed=SEED).eval(), tokenizer)


def score_by_rmkit(loaded: Loaded, rows: Rows) -> list[float]:
    """Rewards of all responses by rmkit."""
    model, tokenizer = loaded
    rewards = score_responses(model, tokenizer, Dataset.from_list(rows), max_length=MAX_LENGTH)
    return np.concatenate(rewards).tolist()


def score_by_pipeline(loaded: Loaded, rows: Rows, batch_size: int) -> list[float]:
    """Rewards of all responses by transformers' pipeline."""
    model, tokenizer = loaded
    conversations = [[*row["prompt"], *response] for row in rows for response in row["responses"]]
    texts = tokenizer.apply_chat_template(conversations, tokenize=False)
    score = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    return [result["score"] for result in score(texts, batch_size=batch_size)]


@torch.inference_mode()
def score_one_by_one(loaded: Loaded, rows: Rows) -> list[float]:
    """The reference: rewards of all responses, each conversation in a forward pass of its own."""
    model, tokenizer = loaded
    rewards = []
    for row in rows:
        for sequence in encode_rows(tokenizer, [(row["prompt"], row["responses"])], MAX_LENGTH)[0]:
            rewards.append(model(input_ids=torch.tensor([unwrap(sequence).input_ids])).logits.item())
    return rewards


def run_round(score: Score, reference: Callable[[int], Sequence[float]], rounds: Sequence[Rows], number: int) -> Record:
    """One side's seconds per response in a round. Asserts that its rewards are those of the reference."""
    rewards: list[float] = []
    record = clock(lambda: rewards.extend(score(rounds[number])))
    difference = np.abs(np.array(rewards) - reference(number)).max()
    assert difference <= TOLERANCE, f"rewards differ by {difference}"
    return {"cpu": record["cpu"] / len(rewards)}


def run_sides(
    sides: Mapping[str, Score], loaded: Loaded, rows: Rows, rounds: int, work: Path, name: str, settings: Sequence[Any]
) -> dict[str, list[Record]]:
    """The records of all sides, the rows divided among the rounds."""
    count = len(rows) // rounds
    parts = [rows[start:start + count] for start in range(0, len(rows), count)]
    reference = functools.cache(lambda number: score_one_by_one(loaded, parts[number]))
    cells = Cells(work, [MODEL, *settings, count, rounds, VOCABULARY, "per response"], rounds)
    return cells.run(name, {side: partial(run_round, score, reference, parts) for side, score in sides.items()})


def compare_on_file(path: Path, name: str, work: Path, rounds: int) -> dict[str, Any]:
    """Responses per second of rmkit and of the pipeline on one file, and the ratios of their times."""
    prompts, loaded = load(path, work)
    sizes = {str(size): partial(score_by_pipeline, loaded, batch_size=size) for size in BATCH_SIZES}
    others = sample_rows(prompts, RESPONSES, loaded[1], len(prompts) // 2, TUNING_PROMPTS[name])
    tuning = run_sides(sizes, loaded, others, 1, work, f"tuning {name}", [RESPONSES, BATCH_SIZES])
    best = min(BATCH_SIZES, key=lambda size: tuning[str(size)][0]["cpu"])
    sides = {"rmkit": partial(score_by_rmkit, loaded), "pipeline, defaults": sizes["1"],
             "pipeline, best": sizes[str(best)]}
    rows = sample_rows(prompts, RESPONSES, loaded[1], 0, rounds * PROMPTS[name])
    records = run_sides(sides, loaded, rows, rounds, work, f"scoring {name}", [RESPONSES, best])
    return {
        "batch_size": best,
        "sides": {side: {"cpu": 1 / take_median(by_round, "cpu")} for side, by_round in records.items()},
        "ratios": {"cpu": {side: compare(records, side, "rmkit") for side in ("pipeline, defaults", "pipeline, best")}},
    }


def grow_responses(path: Path, work: Path, batch_size: int) -> dict[str, Any]:
    """Responses per second by number K of responses to a prompt; `fit`: rmkit's seconds per response in 1 / K."""
    prompts, loaded = load(path, work)
    sides = {"rmkit": partial(score_by_rmkit, loaded),
             "pipeline, best": partial(score_by_pipeline, loaded, batch_size=batch_size)}
    seconds: dict[str, dict[int, float]] = {side: {} for side in sides}
    for responses in GROWTH:
        rows = sample_rows(prompts, responses, loaded[1], 0, GROWTH_ROUNDS * GROWTH_RESPONSES // responses)
        records = run_sides(sides, loaded, rows, GROWTH_ROUNDS, work, f"growth {responses}", [responses, batch_size])
        for side, by_round in records.items():
            seconds[side][responses] = take_median(by_round, "cpu")
    return {
        "responses_per_second": {side: {str(responses): 1 / cost for responses, cost in by_responses.items()}
                                 for side, by_responses in seconds.items()},
        "fit": fit_line([1 / responses for responses in GROWTH], list(seconds["rmkit"].values())),
    }


def measure_scoring(files: Mapping[str, Path], work: Path, rounds: int) -> dict[str, Any]:
    """All figures; rounds that are kept in `work` are not repeated."""
    work.mkdir(parents=True, exist_ok=True)
    contests = {name: compare_on_file(path, name, work, rounds) for name, path in files.items()}
    return {"contests": contests,
            "growth": grow_responses(files[GROWTH_DATA], work, contests[GROWTH_DATA]["batch_size"])}
