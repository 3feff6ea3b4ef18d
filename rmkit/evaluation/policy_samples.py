"""What several policies' samples have in common: questions, the rows that a judge is to see, and matches."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from tqdm import tqdm

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.core.stage import read_record
from rmkit.data.samples import SAMPLES, parse_responses
from rmkit.data.schema import Messages
from rmkit.data.sources import RowError, read_rows
from rmkit.evaluation.policies import PolicyComparisons, name_question

Name = tuple[str, int]  # of a question, and the turn


class SampledRow(NamedTuple):
    """One policy's responses to a question, the conversation that they answer, and the row's other columns."""

    prompt: Messages
    responses: list[Messages]
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class PolicySamples:
    """Policies by name, and what each said to the questions [question][policy] that all of them have answered."""

    policies: list[str]
    names: list[Name]
    sampled: list[list[SampledRow]]
    left_out: dict[str, int]  # by policy: rows that cannot be used, or that not all have answered

    def list_pairs(self, baseline: int | None) -> Iterator[tuple[int, int, int, int]]:
        """Question, two policies (with the baseline alone, where there is one), and the number of their responses."""
        for question, row in enumerate(self.sampled):
            for one, other in itertools.combinations(range(len(self.policies)), 2):
                if baseline is None or baseline in (one, other):
                    for number in range(min(len(row[one].responses), len(row[other].responses))):
                        yield question, one, other, number


def read_policies(policies: Mapping[str, Sequence[str]], split: str) -> PolicySamples:
    """The samples of each policy, out of folders of `rmkit sample` or any usual files with `prompt` and `responses`.

    Rows meet by `question` and `turn` (1 where there is none), without a question by the prompt. Raises `InputError`
    where no question is answered by all.
    """
    read = {name: read_policy(name, places, split) for name, places in policies.items()}
    common = set.intersection(*(set(rows) for rows, _ in read.values()))
    if not common:
        raise_input_error(
            "policies",
            "samples that answer the same questions",
            Verbatim("none in common"),
            "Draw them from the same prompts.",
        )
    names = [name for name in next(iter(read.values()))[0] if name in common]
    return PolicySamples(
        list(policies), names, [[read[policy][0][name] for policy in policies] for name in names],
        {policy: faults + len(rows) - len(common) for policy, (rows, faults) in read.items()},
    )


def read_policy(policy: str, places: Sequence[str], split: str) -> tuple[dict[Name, SampledRow], int]:
    """One policy's samples by question and turn, and how many rows are of no use."""
    found: dict[Name, SampledRow] = {}
    faults = 0
    for row in itertools.chain.from_iterable(read_rows(find_samples(place), split) for place in places):
        parsed = parse_responses(row)
        if isinstance(parsed, RowError) or isinstance(row.content, RowError):
            faults += 1
            continue
        columns = row.content
        name = (str(columns.get("question") or name_question(parsed[0])), int(columns.get("turn") or 1))
        if name in found:
            raise_input_error(
                f"policies.{policy} {row.file}:{row.line}",
                "a question once in each turn",
                Verbatim("it again"),
                "Name one file for each turn.",
            )
        found[name] = SampledRow(*parsed, columns)
    return found, faults


def find_samples(place: str) -> str:
    """The file of samples in a folder of `rmkit sample`; any other place as it is."""
    return place if read_record(place) is None else str(Path(place) / SAMPLES)


def pointwise_rows(field: PolicySamples) -> Dataset:
    """A row for each policy's responses to a question, of which a judge scores each by itself."""
    return Dataset.from_list([
        {"id": f"{question}/{policy}", "prompt": sampled.prompt, "responses": sampled.responses}
        for question, row in enumerate(tqdm(field.sampled, "Rows", disable=None))
        for policy, sampled in zip(field.policies, row, strict=True)
    ])


def pairwise_rows(field: PolicySamples, baseline: int | None) -> Dataset:
    """A row for each pair of responses. Raises `InputError` where they do not answer the same conversation."""
    rows = []
    for question, one, other, number in field.list_pairs(baseline):
        left, right = field.sampled[question][one], field.sampled[question][other]
        if left.prompt != right.prompt:
            raise_input_error(
                f"turn {field.names[question][1]} of a question",
                "the same conversation before both responses",
                Verbatim("each policy's own"),
                "A judge of single responses (rubric, hundred, rewards) grades turns.",
            )
        policies = field.policies[one], field.policies[other]
        rows.append({"id": "/".join((str(question), *policies, str(number))), "prompt": left.prompt,
                     "chosen": left.responses[number], "rejected": right.responses[number]})
    return Dataset.from_list(rows)


def build_comparisons(
    field: PolicySamples, baseline: int | None, preferences: NDArray[np.float64]
) -> PolicyComparisons:
    """The matches, in the order of `list_pairs`, from preferences [pair, order]."""
    pairs = list(field.list_pairs(baseline))
    numbers: dict[str, int] = {}
    prompts = [numbers.setdefault(field.names[question][0], len(numbers)) for question, *_ in pairs]
    lengths = [[len(field.sampled[question][policy].responses[number][-1]["content"]) for policy in (one, other)]
               for question, one, other, number in pairs]
    levels = [field.sampled[question][0].columns.get("difficulty") for question, *_ in pairs]
    difficulty = None if any(level is None for level in levels) else np.array(levels, dtype=np.float64)
    sides = np.array([[one, other] for _, one, other, _ in pairs])
    return PolicyComparisons(sides, preferences, np.array(lengths, dtype=np.float64), np.array(prompts), difficulty)
