"""Teaching: what a model is fine-tuned on before the loop: instructions, and its own judgments that bear out ranks."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rmkit.core.arrays import finite_array
from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.legacy_config import as_dict
from rmkit.core.seeds import derive_seed
from rmkit.core.stage import open_stage
from rmkit.data.completions import COMPLETION, read_completions
from rmkit.data.rejected_rows import RejectedRows
from rmkit.data.schema import Messages
from rmkit.data.sources import RowError, read_rows
from rmkit.data.splits import assign_split, check_fractions
from rmkit.judges.base import JudgeTask
from rmkit.judges.language_model import render_task
from rmkit.judges.prompts import JUDGE_PROMPTS
from rmkit.judges.results import JudgedSamples, read_judged
from rmkit.judges.sanitize import special_tokens
from rmkit.metrics.agreement import score_array
from rmkit.models.reward_model import load_tokenizer

VALIDATION = "validation"
LESSONS = "train.jsonl"


@dataclass(kw_only=True)
class EftConfig:
    """Make lessons of the judgments in the folder `judgments` of `rmkit judge` on `data`, and of `instructions`.

    `data`: rows of `prompt`, `responses` and `ranks` (a number for each response, 0 the best, null for none), as
    OpenAssistant has them. Judgments are taught if the scores given together order the responses as the ranks do, and
    balanced (`select_eft_judgments`). `question`: the one that they answer; `tokenizer`: of the model that was asked, whose
    special tokens were broken in it, null for one behind a server. `instructions`: rows as `rmkit sft` takes them.
    """

    data: str
    judgments: str
    output_dir: str
    question: str
    tokenizer: str | None = None
    instructions: str | None = None
    validation_fraction: float = 0.25
    allow_ties: bool = False
    most: float = 1.0
    seed: int = 0
    trust_remote_code: bool = False


def write_eft_data(config: EftConfig) -> Path:
    """Write `train.jsonl`, rows of `rmkit sft`, and `validation.jsonl`, judgments alone; returns the stage's folder.

    The record counts judgments by what became of them. Raises `InputError` when nothing is left to teach.
    """
    inputs = {name: getattr(config, name) for name in ("data", "judgments", "instructions")}
    with open_stage(config.output_dir, "teach", as_dict(config), {k: v for k, v in inputs.items() if v}) as stage:
        if not stage.done:
            instructions: list[dict[str, Any]] = []
            if config.instructions is not None:
                with RejectedRows(stage.directory / "quarantine.jsonl") as quarantine:
                    instructions += read_completions(config.instructions, "train", quarantine)
            judged = read_judged(config.judgments)
            chosen = select_eft_judgments(
                judged.scores, read_ranks(config.data, judged), judged.prompts,
                taught={row["prompt"][-1]["content"] for row in instructions}, seed=config.seed,
                validation_fraction=config.validation_fraction, allow_ties=config.allow_ties, most=config.most,
            )
            rows = {
                split: list(instruction_prompts(config, judged, chosen.fate == split)) for split in (TRAIN, VALIDATION)
            }
            if not rows[TRAIN] and not instructions:
                raise_input_error(
                    "teach", "a judgment that agrees with the ranks", Verbatim(chosen.count()), "Look at the scores."
                )
            for split, own in ((VALIDATION, rows[VALIDATION]), (TRAIN, instructions + rows[TRAIN])):
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in own)
                (stage.directory / f"{split}.jsonl").write_text(text, encoding="utf-8")
            stage.record.update(instructions=len(instructions), judgments=chosen.count())
    return stage.directory


def read_ranks(data: str, judged: JudgedSamples) -> NDArray[np.float64]:
    """The ranks of the responses that were judged, [prompt, response], NaN for none."""
    found: dict[str, list[float]] = {}
    for row in read_rows(data):
        if isinstance(row.content, RowError):
            continue
        ranks = row.content.get("ranks")
        name = f"{Path(row.file).name}:{row.line}"
        if not isinstance(ranks, list) or len(ranks) != len(row.content.get("responses") or ()):
            raise_input_error(name, "ranks, one for each response", ranks, "Write null for a response without one.")
        found[name] = [np.nan if rank is None else float(rank) for rank in ranks]
    return judged.spread([found[name] for name in judged.ids])


def instruction_prompts(config: EftConfig, judged: JudgedSamples, kept: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    """The judgments at the places that are kept, each behind the conversation in which it was asked for."""
    tokens: tuple[str, ...] = ()
    if config.tokenizer is not None:
        tokens = special_tokens(load_tokenizer(config.tokenizer, trust_remote_code=config.trust_remote_code))
    for prompt, response, judgment in np.argwhere(kept).tolist():
        task = JudgeTask(judged.ids[prompt], judged.prompts[prompt], (judged.responses[prompt][response],))
        shown = render_task(JUDGE_PROMPTS[config.question], task, "given", tokens)
        text = judged.texts[prompt, response, judgment]
        yield {"prompt": [dict(message) for message in shown],
               COMPLETION: [{"role": "assistant", "content": text}]}


TRAIN = "train"


@dataclass(frozen=True)
class EftSelection:
    """What becomes of each judgment: `fate` over [prompt, response, judgment], train, validation, or why it left."""

    fate: NDArray[np.str_]

    def count(self) -> dict[str, int]:
        """How many judgments met each fate."""
        return dict(Counter(self.fate.ravel().tolist()))


def select_eft_judgments(
    scores: ArrayLike,
    ranks: ArrayLike,
    prompts: Sequence[Messages],
    *,
    taught: Collection[str],
    seed: int,
    validation_fraction: float = 0.25,
    allow_ties: bool = False,
    most: float = 1.0,
) -> EftSelection:
    """Judgments to fine-tune a judge on, and to watch it by: rank agreement, then balance, split by prompt.

    Judgments leave for the first of these reasons: "in the instruction data", where the prompt's text is among
    `taught`; then as `filter_by_rank_agreement` has it; then "score in excess", by `balance_scores`, in the training split alone.

    Args:
        scores, ranks, allow_ties: as in `filter_by_rank_agreement`; most: as in `balance_scores`.
        prompts: [prompt], conversations, by which the split is drawn (`assign_split`).
        taught: the last messages of the instruction data's prompts, from which these lessons are to be disjoint.
        validation_fraction: of prompts; 1/4 is near the paper's 541 of 2,171 judgments.

    Raises `InputError` as these functions do, and for another number of prompts.

    Source: arXiv 2401.10020 (Self-Rewarding), Section 3.1.1, whose rule of balance is not stated.
    """
    kept = filter_by_rank_agreement(scores, ranks, allow_ties=allow_ties)
    fate = kept.astype("U40")
    if len(prompts) != len(fate):
        raise_input_error("prompts", f"one for each of {len(fate)} rows of scores", len(prompts), "Pass all of them.")
    check_fractions(validation_fraction, 0.0)
    names = {text.strip() for text in taught}
    for place, prompt in enumerate(prompts):
        split = assign_split(prompt, seed=seed, validation_fraction=validation_fraction, test_fraction=0.0)
        if prompt[-1]["content"].strip() in names:
            fate[place] = "in the instruction data"
        else:
            fate[place][kept[place] == ""] = split
    train = fate == TRAIN
    if train.any():
        balanced = balance_scores(np.asarray(scores, dtype=np.float64)[train], most=most, seed=seed)
        fate[train] = np.where(balanced, TRAIN, "score in excess")
    return EftSelection(fate)


def filter_by_rank_agreement(scores: ArrayLike, ranks: ArrayLike, *, allow_ties: bool = False) -> NDArray[np.str_]:
    """"" for each judgment whose scores order the prompt's responses as people do; else why it is not kept.

    The n-th judgments of a prompt's responses stand or fall together: their scores, of those responses that have one,
    must rise wherever the rank falls. Reasons: "no score", "no rank", "nothing to compare" (no two responses of
    different rank have a score), "against the ranking", and "a tie" where it is against it by equal scores alone,
    which `allow_ties` lets pass as long as one pair is in order.

    `scores` over [prompt, response, judgment], NaN for no response or one that could not be read; `ranks` over
    [prompt, response], 0 the best, NaN for none. Responses of equal rank may have any scores.

    Raises `InputError` for infinite scores or ranks and shapes that do not fit.
    """
    values, order = score_array(scores, ("prompt", "response", "judgment")), score_array(ranks, ("prompt", "response"))
    if values.shape[:2] != order.shape:
        raise_input_error(
            "ranks", f"one per response, shape {values.shape[:2]}", Verbatim(f"shape {order.shape}"), "Pass all."
        )
    better = order[:, :, None] < order[:, None, :]  # no rank is better than none
    gaps = values[:, :, None] - values[:, None, :]
    compared = better[..., None] & ~np.isnan(gaps)
    in_order, tied, wrong = (
        np.any(compared & outcome, axis=(1, 2), keepdims=True)[:, 0] for outcome in (gaps > 0, gaps == 0, gaps < 0)
    )
    failing = tied & ~in_order if allow_ties else tied
    reasons = {
        "no score": np.isnan(values),
        "no rank": np.isnan(order)[..., None],
        "nothing to compare": ~(in_order | tied | wrong),
        "against the ranking": wrong,
        "a tie": failing,
    }
    return np.select([np.broadcast_to(holds, values.shape) for holds in reasons.values()], list(reasons), default="")


def balance_scores(scores: ArrayLike, *, most: float = 1.0, seed: int) -> NDArray[np.bool_]:
    """Which of `scores` over [judgment] stay, so that no score is much more frequent than the others.

    Each score, to the nearest whole number, stays at most `most` times as often as the median of those that occur
    (rounded up); those in excess are drawn at random. The median is not moved by the one score that everything gets.

    Raises `InputError` for NaN, another shape and `most` below 1, under which the usual score would be cut too.
    """
    values = finite_array("scores", scores, ("judgment",))
    if not 1 <= most < np.inf:
        raise_input_error("most", "a number of at least 1", most, "1 cuts each score to the median one's frequency.")
    _, numbers, counts = np.unique(np.floor(values + 0.5), return_inverse=True, return_counts=True)
    allowed = int(np.ceil(most * np.median(counts)))
    keep = np.ones(len(values), dtype=np.bool_)
    generator = np.random.default_rng(derive_seed(seed, "balance"))
    for number in np.flatnonzero(counts > allowed):
        own = np.flatnonzero(numbers == number)
        keep[generator.permutation(own)[allowed:]] = False
    return keep
