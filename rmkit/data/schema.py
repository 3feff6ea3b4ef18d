"""A row of any usual format as one canonical pair, or the reason why it cannot be one.

A pair is `id`, `prompt`, `chosen`, `rejected` (each a list of {"role", "content"} messages), `source`, and `gold_gap`
(the true reward gap of the pair as labelled) where the row has it.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from rmkit.core.checks import Verbatim, raise_input_error
from rmkit.data.sources import RowError

COLUMNS = ("id", "prompt", "chosen", "rejected", "source", "gold_gap")
ROLES = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")

Messages = list[dict[str, str]]
Pair = dict[str, Any]


def check_columns(columns: Mapping[str, str]) -> None:
    """Refuse a mapping {our column: theirs} with an unknown column of ours."""
    for ours in columns:
        if ours not in COLUMNS:
            expected = f"one of {', '.join(COLUMNS)}"
            raise_input_error(f"columns: {ours}", expected, Verbatim("an unknown one"), "Write {our column: theirs}.")


def parse_pair(row: Mapping[str, Any], columns: Mapping[str, str], name: str, source: str) -> Pair:
    """The pair in a row; raises `RowError` where there is none.

    `columns` maps our columns to theirs; `name` and `source` are used where the row has no id or source. A prompt is
    text, a dialogue as text ("Human: ...\\n\\nAssistant: ...\\n\\nAssistant:") or messages; a side is text or messages.
    Without a prompt column each side is a whole conversation. In messages, the prompt is their common beginning; in
    text ("\\n\\nHuman: ...\\n\\nAssistant: ..."), it is all but the last turn, which must be the same on both sides.
    """
    values = {ours: row.get(columns.get(ours, ours)) for ours in COLUMNS}
    sides = {side: read_side(values[side], side) for side in ("chosen", "rejected")}
    if values["prompt"] is None:
        prompt, chosen, rejected = split_conversations(sides["chosen"], sides["rejected"])
    else:
        prompt = read_prompt(values["prompt"])
        chosen, rejected = (read_response(sides[side], prompt, side) for side in ("chosen", "rejected"))
    for part, messages in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected)):
        check_not_empty(messages, part)
    if [strip(message) for message in chosen] == [strip(message) for message in rejected]:
        raise RowError("chosen equal to rejected")
    pair: Pair = {
        "id": read_name(values["id"], "id") or name,
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "source": read_name(values["source"], "source") or source,
    }
    check_unicode(prompt, chosen, rejected, [{"id": pair["id"], "source": pair["source"]}])
    if values["gold_gap"] is not None:
        pair["gold_gap"] = read_number(values["gold_gap"], "gold_gap")
    return pair


def read_side(value: Any, side: str) -> str | Messages:
    """A side's text or messages."""
    if value is None:
        raise RowError(f"missing {side}")
    return value if isinstance(value, str) else read_messages(value, side)


def read_messages(value: Any, column: str) -> Messages:
    """Messages with their role and content; other keys of a message are left out."""
    if not isinstance(value, list):
        raise RowError("wrong type", f"{column}: expected text or messages, got {type(value).__name__}")
    if not value:
        raise RowError(f"empty {column}")
    messages = []
    for position, message in enumerate(value):
        fields = [message.get(key) for key in ("role", "content")] if isinstance(message, dict) else []
        if not fields or not all(isinstance(field, str) for field in fields) or not fields[0]:
            raise RowError("wrong type", f"{column}: message {position + 1} has no role and content that are text")
        messages.append({"role": fields[0], "content": fields[1]})
    return messages


def read_prompt(value: Any) -> Messages:
    """A prompt's messages, from messages, a dialogue as text, or the text of one user message."""
    if value is None:
        raise RowError("missing prompt")
    if not isinstance(value, str):
        return read_messages(value, "prompt")
    text = value.strip()
    if text.startswith("Human:") and text.endswith("\n\nAssistant:"):
        return parse_dialogue(text)[:-1]
    return [{"role": "user", "content": value}]


def parse_dialogue(text: str) -> Messages:
    """The turns of "Human: ...\\n\\nAssistant: ..."; `text` begins with one."""
    parts = TURN.split(text.strip())
    return [
        {"role": ROLES[speaker], "content": content.strip()}
        for speaker, content in zip(parts[1::2], parts[2::2], strict=True)
    ]


def read_response(side: str | Messages, prompt: Messages, column: str) -> Messages:
    """A side's response behind an explicit prompt, which messages may repeat."""
    if isinstance(side, str):
        return [{"role": "assistant", "content": side}]
    if side[:len(prompt)] == prompt:
        side = side[len(prompt):]
    check_response(side, column)
    return side


def check_response(messages: Messages, column: str) -> None:
    """A response begins and ends with the assistant."""
    if not messages:
        raise RowError(f"empty {column}")
    if messages[0]["role"] != "assistant":
        raise RowError("prompts differ", f"{column}: the response begins with the role {messages[0]['role']}")
    if messages[-1]["role"] != "assistant":
        raise RowError("no response at the end", f"{column}: the last role is {messages[-1]['role']}")


def split_conversations(chosen: str | Messages, rejected: str | Messages) -> tuple[Messages, Messages, Messages]:
    """The prompt and the two responses in two whole conversations."""
    sides = []
    for column, side in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(side, str):
            if not side.strip():
                raise RowError(f"empty {column}")
            if not side.lstrip().startswith("Human:"):
                raise RowError("missing prompt", f"no prompt column, and {column} does not begin with Human:")
            side = parse_dialogue(side)
        sides.append(side)
    shortest = min(len(side) for side in sides) - 1  # a response is left on both sides
    shared = next((turn for turn in range(shortest) if sides[0][turn] != sides[1][turn]), shortest)
    prompt, responses = sides[0][:shared], [side[shared:] for side in sides]
    if not prompt:
        raise RowError("prompts differ", "chosen and rejected share no first message")
    for column, response, original in zip(("chosen", "rejected"), responses, (chosen, rejected), strict=True):
        check_response(response, column)
        if isinstance(original, str) and len(response) > 1:
            raise RowError("prompts differ", f"{column}: {len(response)} turns that the other side has not")
    return prompt, responses[0], responses[1]


def read_name(value: Any, column: str) -> str:
    """An id or a source as text; empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError("wrong type", f"{column}: expected text, got {type(value).__name__}")
    return str(value)


def read_number(value: Any, column: str) -> float:
    """A finite number."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RowError("wrong type", f"{column}: expected a finite number, got {value!r:.40}")
    return number


def check_not_empty(messages: Messages, name: str) -> None:
    """Refuse messages without any text."""
    if not any(message["content"].strip() for message in messages):
        raise RowError(f"empty {name}")


def check_unicode(*parts: Messages) -> None:
    """Refuse half a surrogate pair (JSON can escape one), which no file or tokenizer takes."""
    try:
        "".join(text for messages in parts for message in messages for text in message.values()).encode()
    except UnicodeEncodeError as error:
        raise RowError("bad Unicode", str(error)) from None


def strip(message: Mapping[str, str]) -> tuple[str, str]:
    """A message without the space around it."""
    return message["role"], message["content"].strip()
