"""Parse the verdict of a language model's answer: one line `Score: n`, or `Winner: A`, `Winner: B` or `Winner: tie`.

The last line that begins with the keyword counts. It must have exactly that form: the number or the name, and nothing
else. "Response" or "Judgment" may stand before the name; spaces and Markdown's asterisks around the parts are ignored.
An answer without such a line has no score; nothing else in it is searched for one. Judged text cannot write the line:
`rmkit.judges.sanitize` puts a space before its colon.

| answer | result |
|---|---|
| Score: 4, Score: 4.5, **Score:** 4 | 4, 4.5, 4 |
| Score: 3, and on a later line Score: 4 | 4 |
| Score: 7 on a scale from 0 to 5, Score: -1 | unparsed: off the scale |
| Score: 4/5, Score: 4 points, Score: 3 or 4, Score: five | unparsed: not one number |
| Winner: A, Winner: Response B, Winner: tie | 1, 0, 0.5 |
| Winner: Response A is better than B | unparsed: not A, B or tie |
| no such line, or an answer that begins with <think> and has no </think> | unparsed: no score, no winner |
| the answer was cut off at its length within that line | unparsed: cut off (1 might have become 10) |
"""

import re
from typing import NamedTuple

from rmkit.judges.base import Scale

LINES = {keyword: re.compile(rf"^[ \t*]*{keyword}:[ \t*]*(.*)", re.MULTILINE) for keyword in ("Score", "Winner")}
NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
WINNER = re.compile(r"(?:Response |Judgment )?(A|B|tie)")
PREFERENCES = {"A": 1.0, "B": 0.0, "tie": 0.5}


class ParsedScore(NamedTuple):
    """A score and its position in the answer, -1 for a tie; None and the reason where the answer has no score."""

    value: float | None
    reason: str = ""
    position: int = -1


def parse_score(text: str, scale: Scale, *, cut: bool = False) -> ParsedScore:
    """The score that an answer gives; `cut`: the answer stopped at its maximum length."""
    line = last_verdict(text, "Score", cut)
    if isinstance(line, ParsedScore):
        return line
    number = line[1].rstrip(" \t\r*")
    if not NUMBER.fullmatch(number):
        return ParsedScore(None, "not one number")
    value = float(number)
    return ParsedScore(value, position=line.start(1)) if scale.holds(value) else ParsedScore(None, "off the scale")


def parse_winner(text: str, *, cut: bool = False) -> ParsedScore:
    """The preference for A: 1 where A wins, 0 where B wins, 1/2 for a tie; `cut` as for `parse_score`."""
    line = last_verdict(text, "Winner", cut)
    if isinstance(line, ParsedScore):
        return line
    name = WINNER.fullmatch(line[1].rstrip(" \t\r*"))
    if not name:
        return ParsedScore(None, "not A, B or tie")
    return ParsedScore(PREFERENCES[name[1]], position=-1 if name[1] == "tie" else line.start(1) + name.start(1))


def last_verdict(text: str, keyword: str, cut: bool) -> re.Match[str] | ParsedScore:
    """The last line of the answer that begins with the keyword, its value as group 1; or why there is none."""
    thoughts = text.rfind("</think>") + 1
    lines = list(LINES[keyword].finditer(text, thoughts))
    if not lines or (not thoughts and text.lstrip().startswith("<think>")):
        return ParsedScore(None, f"no {keyword.lower()}")
    return ParsedScore(None, "cut off") if cut and lines[-1].end() == len(text) else lines[-1]
