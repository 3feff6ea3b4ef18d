"""Answers: the score or the winner that a language model's answer ends with.

Both parsers read the generated text alone, and nothing that the judge quotes there: thoughts up to `</think>`, code
fences, lines behind ">" or "|", blocks between our tags, and words in quotation marks. What counts is the last
`Score:` or `Winner:` that begins a line (behind list marks, asterisks or a word such as "Final") or that ends the
answer. Judged text is shown with a space before that colon (rmkit.judges.quotation), and "Score : 4" is none. When
the last one cannot be read, the answer is unparsed; an earlier one never takes its place.

| answer ends with | is read as |
|---|---|
| Score: 4, **Score:** 4, Final score: [4], Score：4 | 4 |
| Score: 8.5, Score: 8,5 | 8.5 |
| Score: 4/5, Score: 4 out of 5, on a scale up to 5 | 4 |
| Score: 9/10, on a scale up to another number | unparsed: the judge used another scale |
| Score: 85%, on a scale up to 100 | 85; on any other unparsed |
| Score: 3, and later Score: 4 | 4, the last |
| Score: 7 on a scale from 0 to 5, Score: -1 | unparsed: off the scale |
| Score: 4-5, Score: 1+1+1, Score: 4.5.1, Score: five, Score: 4th | unparsed: not one number |
| 4, and nothing else in the whole answer | 4 |
| no `Score:` | unparsed |
| Score: 1, and the answer was cut off there | unparsed: it might have become 10 |
| Winner: Judgment A, Winner: [Judgement A], **Winner**: A | A |
| Winner: Judgment A and Judgment B, Winner: tie (or both, neither, draw, equal) | a tie |
| Winner: Judgment A is better than B, Winner: Judgment C, no `Winner:` | unparsed |
"""

import re
from typing import NamedTuple

from rmkit.judges.judgment import Scale


class Reading(NamedTuple):
    """A number that was read, and where in the answer it begins; or None, and why there is none."""

    value: float | None
    reason: str = ""
    place: int = -1


TAGS = "request|response|response-a|response-b|judgment-a|judgment-b|rule"
QUOTED = re.compile(
    r"\A.*</think>|<think>.*|```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)"
    rf"|^[ \t]*<({TAGS})>[ \t]*$.*?(?:^[ \t]*</\1>|\Z)",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
QUOTED_LINES = re.compile(r"^[ \t]*[>|].*$", re.MULTILINE)
QUOTED_WORDS = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»|„[^“”\n]*[“”]|‘[^’\n]*’|`[^`\n]*`")
LEAD = r"^[-*•#_\[( \t]*(?:(?:my|the|final|total|overall)[ \t]+){0,3}[*_]*"
MIDDLE = r"(?<![\w\"'“‘`«„])[*_]*"
COLON = r"[*_\])]*[:：]"
NUMBER = re.compile(
    r"[ \t*_\[(<{]*(?P<number>[+-]?[0-9]+(?:[.,][0-9]+)?)[*_]*(?P<percent>[ \t]*%)?"
    r"(?:[ \t]*(?:/|out of)[ \t]*[*_]*(?P<top>[0-9]+(?:\.[0-9]+)?))?"
    r"(?![\w%]|[.,][0-9]|[ \t]*(?:[-–—+=/~^]|to|or)[ \t]*[0-9])",
    re.IGNORECASE,
)
ALONE = re.compile(r"[\s*_\[(]*[0-9]+(?:[.,][0-9]+)?[*_]*(?:\s*(?:/|out of)\s*[0-9]+)?[\s*_\])%.]*", re.IGNORECASE)
NOUN = r"(?i:judge?ment|response|answer|assistant)"
NAME = rf"(?:{NOUN}[ \t]*)?[\[(\"'*_ ]*(?P<letter>[AB](?![\w'’])|[ab](?=\W*\Z))"
MARKS = " \t*_[]()\"'"
TIE = re.compile(r"(?:it'?s[ \t]+)?(?:an?[ \t]+)?(?:tie|tied|draw|both|neither|equal|none)\b", re.IGNORECASE)
BOTH = re.compile(rf"[\[(]*{NAME}[^\w\n]*(?:and|or|[,/&=])[^\w\n]*(?:{NOUN}[ \t]*)?[\[(]*[AB]\b")
# What may follow a verdict in the middle of the last line: nothing that is a sentence.
REST = {
    "score": r"(?:[\W\d_]|out of|points?|percent|to|or)*\Z",
    "winner": rf"(?:[\W_]|\b(?:{NOUN}|[ab]|and|or|tie|both|neither|draw|equal|none)\b)*\Z",
}
VERDICT = {
    keyword: [
        re.compile(LEAD + keyword + COLON, re.IGNORECASE | re.MULTILINE),
        re.compile(f"{MIDDLE}{keyword}{COLON}(?={rest})", re.IGNORECASE),
    ]
    for keyword, rest in REST.items()
}


def read_score(text: str, scale: Scale, *, cut: bool = False) -> Reading:
    """The score that an answer ends with, by the table above; `cut` says that the answer stopped for its length."""
    own = hide_quotes(text)
    if ALONE.fullmatch(own):
        start = 0
    else:
        start = find_last(own, "score")
        if start < 0:
            return Reading(None, "no score")
    found = NUMBER.match(own, start)
    if found is None:
        return Reading(None, "not one number")
    if cut and not own[found.end():].strip():
        return Reading(None, "cut off")
    top = float(found["top"]) if found["top"] else 100.0 if found["percent"] else scale.high
    value = float(found["number"].replace(",", "."))
    if top != scale.high or not scale.holds(value):
        return Reading(None, "off the scale")
    return Reading(value, place=found.start("number"))


def read_winner(text: str, *, cut: bool = False) -> Reading:
    """1 where A wins, 0 where B does, 1/2 for a tie that the judge declares; by the table above."""
    own = hide_quotes(text)
    start = find_last(own, "winner")
    if start < 0:
        return Reading(None, "no winner")
    sentence = re.split(r"\n|[.!?;](?:\s|\Z)", own[start:], maxsplit=1)[0]
    lead = len(sentence) - len(sentence.lstrip(MARKS))
    words = sentence.strip(MARKS)
    if cut and not words:
        return Reading(None, "cut off")
    if TIE.match(words) or BOTH.match(words):
        return Reading(0.5)
    found = re.match(NAME, words)
    if found is None:
        return Reading(None, "not one of the two")
    winner = found["letter"].upper()
    if re.search(rf"\b{'B' if winner == 'A' else 'A'}\b", words):
        return Reading(None, "names both")
    return Reading(float(winner == "A"), place=start + lead + found.start("letter"))


def hide_quotes(text: str) -> str:
    """`text` with every quoted character as "…": what is left stands where it stood."""
    for pattern in (QUOTED_LINES, QUOTED, QUOTED_WORDS):
        text = pattern.sub(lambda found: re.sub(r"[^\n]", "…", found[0]), text)
    return text


def find_last(own: str, keyword: str) -> int:
    """Where the last `keyword:` that begins a line or ends the answer stops; -1 where there is none."""
    return max((found.end() for pattern in VERDICT[keyword] for found in pattern.finditer(own)), default=-1)
