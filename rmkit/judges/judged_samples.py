"""The output of `rmkit judge` on samples, as arrays over prompts and responses."""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from rmkit.data.parquet import load_split
from rmkit.data.samples import is_first_occurrence
from rmkit.data.schema import Messages
from rmkit.judges.metrics import average
from rmkit.judges.report import JUDGMENTS
from rmkit.judges.tasks import ROWS


@dataclass(frozen=True)
class JudgedSamples:
    """Prompts with their responses, and judgments of these.

    ids, prompts: [prompt]; responses: [prompt][response], as messages. scores, rewards: [prompt, response, judgment],
    NaN for none; of reward models a judgment is a member's. texts: of the judgments that have a score, by their
    indices (prompt, response, judgment).
    """

    ids: list[str]
    prompts: list[Messages]
    responses: list[list[Messages]]
    scores: NDArray[np.float64]
    rewards: NDArray[np.float64]
    texts: dict[tuple[int, int, int], str]

    @property
    def contents(self) -> list[list[str]]:
        """The responses' texts, [prompt][response]."""
        return [[response[-1]["content"] for response in responses] for responses in self.responses]

    def pad(self, values: list[list[float]]) -> NDArray[np.float64]:
        """Values [prompt][response] as an array, NaN where a prompt has fewer responses than another."""
        array = np.full(self.scores.shape[:2], np.nan)
        for prompt, values_of_prompt in enumerate(values):
            array[prompt, :len(values_of_prompt)] = values_of_prompt
        return array

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Characters, [prompt, response]."""
        return self.pad([[len(text) for text in texts] for texts in self.contents])

    @property
    def first(self) -> NDArray[np.bool_]:
        """Whether a response repeats no earlier one of its prompt, [prompt, response]."""
        return self.pad([is_first_occurrence(texts).tolist() for texts in self.contents]) == 1

    def average(self, min_judgments: int = 1, std_penalty: float = 0.0) -> NDArray[np.float64]:
        """Mean score minus `std_penalty` population standard deviations, [prompt, response].

        NaN for a response with fewer than `min_judgments` judgments.
        """
        mean = average(self.scores, (-1,))
        std = np.sqrt(average(np.square(self.scores - mean[..., None]), (-1,)))
        enough = (~np.isnan(self.scores)).sum(axis=-1) >= min_judgments
        return np.where(enough, mean - std_penalty * std, np.nan)


def read_judged(folder: str | Path) -> JudgedSamples:
    """The samples and judgments in an output folder of `rmkit judge`.

    Of a judge that compares, the n-th judgment of a response is the mean preference for it in the n-th comparisons with
    each other response of its prompt, in both orders: since every two are compared, that orders the responses as
    Bradley-Terry ratings do.
    """
    rows = load_split(Path(folder) / ROWS, "samples", ("id", "prompt", "responses"))
    ids, responses = list(rows["id"]), list(rows["responses"])
    indices = {name: prompt for prompt, name in enumerate(ids)}
    file = pyarrow.parquet.ParquetFile(Path(folder) / JUDGMENTS)
    samples = 1 + max(int(max(batch["sample"].to_numpy(), default=0)) for batch in file.iter_batches())
    shape = (len(ids), max(map(len, responses)), samples)
    scores, rewards, count = np.zeros(shape), np.full(shape, np.nan), np.zeros(shape)
    texts: dict[tuple[int, int, int], str] = {}
    for batch in file.iter_batches():
        for answer in batch.to_pylist():
            if answer["kind"] != "judgment":
                continue
            name, *judged = split_task_id(answer["task"], indices)
            for response, score in zip(judged, (answer["score"], 1 - answer["score"]), strict=False):
                index = (indices[name], response, answer["sample"])
                scores[index] += score
                count[index] += 1
            if len(judged) == 1:
                rewards[index] = np.nan if answer["reward"] is None else answer["reward"]
                if answer["text"] is not None:
                    texts[index] = answer["text"]
    scores = np.where(count > 0, scores / np.maximum(count, 1), np.nan)
    return JudgedSamples(ids, list(rows["prompt"]), responses, scores, rewards, texts)


def split_task_id(task: str, row_ids: Container[str]) -> tuple[Any, ...]:
    """The row of a task and the indices of its one or two responses; a row's id may contain a slash."""
    row, last = task.rsplit("/", 1)
    if row in row_ids:
        return row, int(last)
    row, first = row.rsplit("/", 1)
    return row, int(first), int(last)
