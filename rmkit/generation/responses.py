"""Rows with prompts, completed by a generator."""

from collections import Counter
from typing import Any

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.generation.base import Generator
from rmkit.generation.results import Completion, Failed


def add_responses(
    rows: list[dict[str, Any]], generator: Generator, counts: Counter[str], **settings: Any
) -> list[dict[str, Any]]:
    """The rows with `responses` (messages) to their `prompt`, without the rows of which a response failed.

    counts: of rows, responses, tokens, responses cut at the limit, failures and rows left out; updated. settings:
    keyword arguments of `Generator.generate`. Raises `InputError` where all rows would be left out.
    """
    answered = []
    results = generator.generate([row["prompt"] for row in rows], **settings)
    for row, of_row in zip(rows, results, strict=True):
        completions = [result for result in of_row if isinstance(result, Completion)]
        if len(completions) < len(of_row):
            counts.update({"failures": len(of_row) - len(completions), "rows left out": 1})
            continue
        counts.update({
            "rows": 1,
            "responses": len(completions),
            "tokens": sum(completion.tokens or 0 for completion in completions),
            "cut": sum(completion.finish == "length" for completion in completions),
        })
        responses = [[{"role": "assistant", "content": completion.text}] for completion in completions]
        answered.append({**row, "responses": responses})
    if not answered:
        reason = next(result.reason for result in results[0] if isinstance(result, Failed))
        raise_input_error("sample", "a response to any prompt", Verbatim(reason), "Check model and prompts.")
    return answered
