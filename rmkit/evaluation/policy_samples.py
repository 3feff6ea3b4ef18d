"""Samples of several policies, joined by question, as rows for a judge and as comparisons."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import read_record
from rmkit.data.samples import SAMPLES, parse_responses
from rmkit.data.schema import Messages
from rmkit.data.sources import RowError, read_rows
from rmkit.evaluation.policies import PolicyComparisons, grade_turns, name_question

Name = tuple[str, int]  # of a question, and the turn


class SampledRow(NamedTuple):
    """A policy's responses to a question, the conversation that they answer, and the row's columns."""

    prompt: Messages
    responses: list[Messages]
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class PolicySamples:
    """The samples of several policies on the questions that all of them answered.

    names: [question]. sampled: [question][policy]. left_out: by policy, rows that are invalid or that not all answered.
    """

    policies: list[str]
    names: list[Name]
    sampled: list[list[SampledRow]]
    left_out: dict[str, int]

    def list_pairs(self, baseline: int | None) -> Iterator[tuple[int, int, int, int]]:
        """Question, two policies and the index of their responses; with `baseline`, only pairs that it is in."""
        for question, row in enumerate(self.sampled):
            for first, second in itertools.combinations(range(len(self.policies)), 2):
                if baseline is None or baseline in (first, second):
                    for index in range(min(len(row[first].responses), len(row[second].responses))):
                        yield question, first, second, index

    def mean_score_by_turn(self, scores: NDArray[np.float64], **bootstrap: int) -> dict[str, Any]:
        """Each policy's `grade_turns`, from a score for each response of `pointwise_rows`."""
        columns = [(policy, turn, question) for (question, turn), row in zip(self.names, self.sampled, strict=True)
                   for policy, sampled in enumerate(row) for _ in sampled.responses]
        policies, turns, questions = (np.array(column) for column in zip(*columns, strict=True))
        return {name: grade_turns(*(column[policies == policy] for column in (scores, turns, questions)), **bootstrap)
                for policy, name in enumerate(self.policies)}


def read_policies(policies: Mapping[str, Sequence[str]], split: str) -> PolicySamples:
    """The samples of each policy, from folders of `rmkit sample` or any files with `prompt` and `responses`.

    Rows are joined by `question` and `turn` (1 if there is none), without a question by the prompt. Raises `InputError`
    if no question is answered by all.
    """
    read = {name: read_policy(name, paths, split) for name, paths in policies.items()}
    common = set.intersection(*(set(rows) for rows, _ in read.values()))
    if not common:
        raise_input_error(
            "policies",
            "samples that answer the same questions",
            Verbatim("none in common"),
            "Sample from the same prompts.",
        )
    names = [name for name in next(iter(read.values()))[0] if name in common]
    return PolicySamples(
        list(policies), names, [[rows[name] for rows, _ in read.values()] for name in names],
        {policy: invalid + len(rows) - len(common) for policy, (rows, invalid) in read.items()},
    )


def read_policy(policy: str, paths: Sequence[str], split: str) -> tuple[dict[Name, SampledRow], int]:
    """One policy's samples by question and turn, and the number of invalid rows."""
    files = [path if read_record(path) is None else str(Path(path) / SAMPLES) for path in paths]
    rows: dict[Name, SampledRow] = {}
    invalid = 0
    for row in itertools.chain.from_iterable(read_rows(file, split) for file in files):
        try:
            parsed, columns = parse_responses(row), row.columns
        except RowError:
            invalid += 1
            continue
        name = (str(columns.get("question") or name_question(parsed[0])), int(columns.get("turn") or 1))
        if name in rows:
            raise_input_error(
                f"policies.{policy} {row.file}:{row.line}",
                "each question once in each turn",
                Verbatim("a repeated one"),
                "Name one file for each turn.",
            )
        rows[name] = SampledRow(*parsed, columns)
    return rows, invalid


def pointwise_rows(samples: PolicySamples) -> Dataset:
    """A row for each policy's responses to a question, for a judge of single responses."""
    return Dataset.from_list([
        {"id": f"{question}/{policy}", "prompt": sampled.prompt, "responses": sampled.responses,
         **({"request": sampled.columns["request"]} if sampled.columns.get("request") else {})}
        for question, row in enumerate(samples.sampled)
        for policy, sampled in zip(samples.policies, row, strict=True)
    ])


def pairwise_rows(samples: PolicySamples, baseline: int | None) -> Dataset:
    """A row for each pair of responses. Raises `InputError` if the two answer different conversations."""
    rows = []
    for question, first, second, index in samples.list_pairs(baseline):
        left, right = samples.sampled[question][first], samples.sampled[question][second]
        if left.prompt != right.prompt:
            raise_input_error(
                f"turn {samples.names[question][1]} of a question",
                "the same conversation before both responses",
                Verbatim("different ones"),
                "Use a judge of single responses to grade turns.",
            )
        policies = samples.policies[first], samples.policies[second]
        rows.append({"id": "/".join((str(question), *policies, str(index))), "prompt": left.prompt,
                     "chosen": left.responses[index], "rejected": right.responses[index]})
    return Dataset.from_list(rows)


def score_preferences(
    samples: PolicySamples, baseline: int | None, scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Preferences [pair, 1] from a score for each response of `pointwise_rows`: 1, 1/2 or 0, NaN without a score."""
    counts = [[len(sampled.responses) for sampled in row] for row in samples.sampled]
    starts = np.cumsum([0, *itertools.chain(*counts)])[:-1].reshape(len(counts), -1)
    gaps = [scores[starts[question, first] + index] - scores[starts[question, second] + index]
            for question, first, second, index in samples.list_pairs(baseline)]
    return (np.sign(np.round(np.array(gaps)[:, None], 9)) + 1) / 2


def build_comparisons(
    samples: PolicySamples, baseline: int | None, preferences: NDArray[np.float64]
) -> PolicyComparisons:
    """The comparisons in the order of `list_pairs`, from preferences [pair, order]."""
    pairs = list(samples.list_pairs(baseline))
    rows = [samples.sampled[question] for question, *_ in pairs]
    numbers: dict[str, int] = {}
    prompts = [numbers.setdefault(samples.names[question][0], len(numbers)) for question, *_ in pairs]
    lengths = [[len(row[policy].responses[index][-1]["content"]) for policy in (first, second)]
               for row, (_, first, second, index) in zip(rows, pairs, strict=True)]
    levels = [row[0].columns.get("difficulty") for row in rows]
    return PolicyComparisons(
        sides=np.array([[first, second] for _, first, second, _ in pairs]), preferences=preferences,
        lengths=np.array(lengths, dtype=np.float64), prompts=np.array(prompts),
        difficulty=None if None in levels else np.array(levels, dtype=np.float64),
    )
