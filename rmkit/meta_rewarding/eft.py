"""Evaluation fine-tuning (EFT) data: the judge's own judgments that agree with human ranks (Self-Rewarding)."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage
from rmkit.data.completions import COMPLETION, read_completions
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.resumable import write_jsonl
from rmkit.data.schema import Messages
from rmkit.data.sources import RowError, read_rows
from rmkit.data.splits import assign_split
from rmkit.judges.base import JudgeTask
from rmkit.judges.judged_samples import JudgedSamples, read_judged
from rmkit.judges.language_model import render_task
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.judges.sanitize import special_tokens
from rmkit.meta_rewarding.step_config import EftConfig
from rmkit.metrics.agreement import score_array
from rmkit.models.reward_model import load_tokenizer

TRAIN, VALIDATION = "train", "validation"
TRAIN_FILE = f"{TRAIN}.jsonl"


def write_eft_data(config: EftConfig) -> Path:
    """Write `train.jsonl`, rows for `rmkit sft`, and `validation.jsonl`, judgments alone; returns the output folder.

    The record counts judgments by status (`select_eft_judgments`). Raises `InputError` if no row is left to train on.
    """
    inputs = {name: getattr(config, name) for name in ("data", "judgments", "instructions") if getattr(config, name)}
    with open_stage(config.output_dir, "eft", as_dict(config), inputs) as stage:
        if not stage.done:
            instructions: list[dict[str, Any]] = []
            if config.instructions is not None:
                with RejectedRows(stage.directory / "quarantine.jsonl") as quarantine:
                    instructions += read_completions(config.instructions, "train", quarantine)
            judged = read_judged(config.judgments)
            status = select_eft_judgments(
                judged.scores, read_ranks(config.data, judged), judged.prompts, seed=config.seed,
                instruction_prompts={row["prompt"][-1]["content"] for row in instructions},
                validation_fraction=config.validation_fraction, allow_ties=config.allow_ties,
                max_score_ratio=config.max_score_ratio,
            )
            rows = {split: list(judgment_rows(config, judged, status == split)) for split in (TRAIN, VALIDATION)}
            counts = Counter(status.ravel().tolist())
            if not rows[TRAIN] and not instructions:
                raise_input_error(
                    "eft", "a judgment that agrees with the ranks", Verbatim(dict(counts)), "Look at the scores."
                )
            write_jsonl(stage.directory / TRAIN_FILE, instructions + rows[TRAIN])
            write_jsonl(stage.directory / f"{VALIDATION}.jsonl", rows[VALIDATION])
            stage.record.update(instructions=len(instructions), judgments=counts)
    return stage.directory


def read_ranks(data: str, judged: JudgedSamples) -> NDArray[np.float64]:
    """The ranks of the judged responses, [prompt, response], NaN for none."""
    by_id: dict[str, list[float]] = {}
    for row in read_rows(data):
        if isinstance(row.content, RowError):
            continue
        ranks = row.content.get("ranks")
        name = f"{Path(row.file).name}:{row.line}"
        if not isinstance(ranks, list) or len(ranks) != len(row.content.get("responses") or ()):
            raise_input_error(name, "ranks, one for each response", ranks, "Write null for a response without one.")
        by_id[name] = [np.nan if rank is None else float(rank) for rank in ranks]
    return judged.pad([by_id[name] for name in judged.ids])


def judgment_rows(config: EftConfig, judged: JudgedSamples, selected: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    """Rows of the `selected` judgments, each with the conversation in which the judge was asked as prompt."""
    tokens: tuple[str, ...] = ()
    if config.tokenizer is not None:
        tokens = special_tokens(load_tokenizer(config.tokenizer, trust_remote_code=config.trust_remote_code))
    for prompt, response, judgment in np.argwhere(selected).tolist():
        task = JudgeTask(judged.ids[prompt], judged.prompts[prompt], (judged.responses[prompt][response],))
        shown = render_task(JUDGE_PROMPTS[config.judge_prompt], task, "original", tokens)
        yield {"prompt": [dict(message) for message in shown],
               COMPLETION: [{"role": "assistant", "content": judged.texts[prompt, response, judgment]}]}


def select_eft_judgments(
    scores: ArrayLike,
    ranks: ArrayLike,
    prompts: Sequence[Messages],
    *,
    instruction_prompts: Collection[str],
    seed: int,
    validation_fraction: float = 0.25,
    allow_ties: bool = False,
    max_score_ratio: float = 1.0,
) -> NDArray[np.str_]:
    """Status of each judgment, [prompt, response, judgment]: "train", "validation", or why it is not used.

    Judgments are filtered by rank agreement, balanced by score, and split by prompt. One is not used for the first of
    these reasons: "in the instruction data"; those of `filter_by_rank_agreement`; "score in excess"
    (`balance_scores`), in the training split alone.

    Args:
        scores, ranks, allow_ties: as in `filter_by_rank_agreement`; max_score_ratio: as in `balance_scores`.
        prompts: [prompt], conversations; the split depends on them (`assign_split`).
        instruction_prompts: last messages of the prompts in the instruction data, which EFT data must not repeat.
        validation_fraction: of prompts; 1/4 is near the paper's 541 of 2,171 judgments.

    Raises `InputError` as these functions do, and for another number of prompts.

    Source: arXiv 2401.10020 (Self-Rewarding), Section 3.1.1, which does not state how scores are balanced.
    """
    reasons = filter_by_rank_agreement(scores, ranks, allow_ties=allow_ties)
    status = reasons.astype("U40")
    if len(prompts) != len(status):
        raise_input_error("prompts", f"one for each of {len(status)} rows of scores", len(prompts), "Pass all of them.")
    excluded = {text.strip() for text in instruction_prompts}
    for index, prompt in enumerate(prompts):
        split = assign_split(prompt, seed=seed, validation_fraction=validation_fraction, test_fraction=0.0)
        if prompt[-1]["content"].strip() in excluded:
            status[index] = "in the instruction data"
        else:
            status[index][reasons[index] == ""] = split
    train = status == TRAIN
    if train.any():
        kept = balance_scores(np.asarray(scores, dtype=np.float64)[train], max_score_ratio=max_score_ratio, seed=seed)
        status[train] = np.where(kept, TRAIN, "score in excess")
    return status


def filter_by_rank_agreement(scores: ArrayLike, ranks: ArrayLike, *, allow_ties: bool = False) -> NDArray[np.str_]:
    """"" for each judgment whose scores order the prompt's responses as the ranks do, else why it is not kept.

    The n-th judgments of a prompt's responses are kept or dropped together: the scores must be higher wherever the rank
    is better. Reasons: "no score", "no rank", "nothing to compare" (no two responses of different rank have a score),
    "against the ranking", and "a tie" (only equal scores contradict the ranks; with `allow_ties` such judgments are
    kept if at least one pair is in order).

    `scores`: [prompt, response, judgment], NaN for no response or an unparsed judgment. `ranks`: [prompt, response], 0
    the best, NaN for none. Responses of equal rank may have any scores.

    Raises `InputError` for infinite scores or ranks and shapes that do not fit.
    """
    values, order = score_array(scores, ("prompt", "response", "judgment")), score_array(ranks, ("prompt", "response"))
    if values.shape[:2] != order.shape:
        raise_input_error(
            "ranks", f"one per response, shape {values.shape[:2]}", Verbatim(f"shape {order.shape}"), "Pass all."
        )
    better = order[:, :, None] < order[:, None, :]  # False where a rank is NaN
    gaps = values[:, :, None] - values[:, None, :]
    compared = better[..., None] & ~np.isnan(gaps)
    in_order, tied, wrong = (
        np.any(compared & outcome, axis=(1, 2), keepdims=True)[:, 0] for outcome in (gaps > 0, gaps == 0, gaps < 0)
    )
    reasons = {
        "no score": np.isnan(values),
        "no rank": np.isnan(order)[..., None],
        "nothing to compare": ~(in_order | tied | wrong),
        "against the ranking": wrong,
        "a tie": tied & ~in_order if allow_ties else tied,
    }
    return np.select([np.broadcast_to(holds, values.shape) for holds in reasons.values()], list(reasons), default="")


def balance_scores(scores: ArrayLike, *, max_score_ratio: float = 1.0, seed: int) -> NDArray[np.bool_]:
    """Which of `scores` [judgment] to keep, so that no score is much more frequent than the others.

    Each score, rounded to a whole number, is kept at most `max_score_ratio` times as often as the median one (rounded
    up); the rest are drawn at random. The median is robust against one score that nearly all responses get.

    Raises `InputError` for NaN, another shape and `max_score_ratio` below 1, which would cut the median score too.
    """
    values = finite_array("scores", scores, ("judgment",))
    if not 1 <= max_score_ratio < np.inf:
        raise_input_error("max_score_ratio", "a number of at least 1", max_score_ratio, "1 cuts to the median count.")
    _, groups, counts = np.unique(np.floor(values + 0.5), return_inverse=True, return_counts=True)
    allowed = int(np.ceil(max_score_ratio * np.median(counts)))
    keep = np.ones(len(values), dtype=np.bool_)
    generator = np.random.default_rng(derive_seed(seed, "balance"))
    for group in np.flatnonzero(counts > allowed):
        keep[generator.permutation(np.flatnonzero(groups == group))[allowed:]] = False
    return keep
