"""Answers: the score or the winner that a language model's answer ends with.

Both parsers read the generated text alone, and nothing that the judge quotes there: thoughts up to `</think>`, code
fences, lines behind ">" or "|", blocks between our tags, and what stands in quotation marks. What counts is the last
`Score:` or `Winner:` that begins a line (behind list marks, asterisks or a word such as "Final") or that ends the
answer, and of its line the first sentence behind it. Judged text is shown with a space before that colon
(rmkit.judges.sanitize), and "Score : 4" is none. When the last one cannot be read, the answer is unparsed; an earlier
one never takes its place.

| answer ends with | is read as |
|---|---|
| Score: 4, **Score:** 4, Final score: [4], Score：4, Score: 4 points | 4 |
| Score: 8.5, Score: 8,5 | 8.5 |
| Score: 4/5, Score: 4 (out of 5), Score: 4 of 5, on a scale up to 5 | 4 |
| Score: 9/10, Score: 9 points out of 10, on a scale up to another number | unparsed: the judge used another scale |
| Score: 85%, on a scale up to 100 | 85; on any other unparsed |
| Score: 3, and later Score: 4 | 4, the last |
| Score: 7 on a scale from 0 to 5, Score: -1 | unparsed: off the scale |
| Score: 4-5, Score: 3, 4, Score: 4.5.1, Score: 1,000, Score: five, Score: 4 out of ten | unparsed: not one number |
| 4, and nothing else in the whole answer | 4 |
| no `Score:`, or one behind a quotation mark that stays open | unparsed |
| Winner: Judgment A, Winner: [Judgement A], **Winner**: A, Winner: A because it is right | A |
| Winner: Judgment A and Judgment B, Winner: tie (or both, neither, draw, equal), and no other word | a tie |
| Winner: Judgment A is better than B, Winner: Neither is right, but A, Winner: Judgment C, no `Winner:` | unparsed |
| Winner: A close call, Winner: Response A is right | unparsed: behind a name stand a mark, a reason or nothing |
| Winner: Response A, or, Winner: Response B, each on a line | unparsed: the form that was asked for |
| either, and the answer was cut off in that sentence or at its end | unparsed: 1 might have become 10, A a tie |
"""

import re
from typing import NamedTuple

from rmkit.judges.base import Scale


class Reading(NamedTuple):
    """A number that was read, and where in the answer it begins; or None, and why there is none."""

    value: float | None
    reason: str = ""
    place: int = -1


# What is quoted: lines; then thoughts, blocks between fences (the closing one as long as the opening, and no language
# behind it) and between our tags; then words between marks, in which an apostrophe within a word is none.
TAGS = "request|response|response-a|response-b|judgment-a|judgment-b|rule"
QUOTED_LINES = re.compile(r"^[ \t]*[>|].*$", re.MULTILINE)
QUOTED_BLOCKS = re.compile(
    r"\A.*</think>|<think>.*"
    r"|(?P<fence>(?P<tick>[`~])(?P=tick){2,}+)"
    r"(?:[^`~\n]*(?P=fence)(?P=tick)*+|.*?(?:(?P=fence)(?P=tick)*+(?![ \t]*\w)|\Z))"
    rf"|^[ \t]*<(?P<tag>{TAGS})>[ \t]*$.*?(?:^[ \t]*</(?P=tag)>|\Z)",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
QUOTED_WORDS = re.compile(
    r"\"[^\"\n]*\"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|‹[^›\n]*›|「[^」\n]*」|『[^』\n]*』|`[^`\n]*`"
    r"|‘(?:[^’\n]|(?<=\w)’(?=\w))*’(?!\w)|(?<![^\s(\[])'(?:[^'\n]|(?<=\w)'(?=\w))*'(?!\w)"
)
# Marks that are then left: they open or close more than a line.
OPENING = re.compile(r"[\"“”„«»‹›「」『』‘`]|(?<![^\s(\[])'(?=[^\n]*\Z)")
CLOSING = re.compile(r"[\"“”«»‹›「」『』`]|['’](?!\w)")

# A score: a number, and a percent sign or the scale's top; behind it no part of another number, and no scale unread.
NUMBER = r"[ \t*_\[(]*(?P<number>[+-]?[0-9]++(?:\.[0-9]++|,[0-9]{1,2}(?![0-9]))?+)[*_\])]*+"
PERCENT = r"(?P<percent>[ \t]*(?:[%％]|per ?cent\b))"
TOP = r"[ \t(,]*(?:/|(?:out[ \t]+)?of\b)[ \t]*[*_\[(]*(?P<top>[0-9]++(?:\.[0-9]++)?+)[*_\])]*+"
POINTS = rf"{NUMBER}(?:{PERCENT}|(?:[ \t]+points?\b[*_\])]*+)?(?:{TOP})?)?+"
MORE = r"\w|[ \t]*(?:[%％+=~^]|(?:and|or|to|plus|minus)\b)|[ \t(,]*(?:/|(?:out|of)\b)"
SCORE = re.compile(rf"{POINTS}(?!{MORE})[^\d¼½¾]*", re.IGNORECASE)
ALONE = re.compile(rf"\s*({POINTS})[\s.]*", re.IGNORECASE)

# A winner: a name; behind it an end, a mark or a reason.
NOUN = r"(?i:judge?ment|response|answer|assistant)s?"
NAME = rf"(?:{NOUN}[ \t]*)?[\[(*_ ]*(?P<letter>[AB](?![\w'’]|\.\w)|[ab](?=\W*\Z))"
WINNER = re.compile(rf"{NAME}[*_\])]*+(?:[ \t]+(?:because|since|as|for)\b|(?![ \t]*\w))")
MARKS = " \t*_[]()\"'"
TIE = re.compile(r"\b(?:tie|tied|draw|both|neither|equal|none)\b", re.IGNORECASE)
BOTH = re.compile(rf"{NAME}[\W_]*(?:and|[,/&=])[\W_]*(?:{NOUN}[ \t]*)?[\W_]*[AB]")

# What may follow a verdict in the middle of a line, if it is to end the answer: a word, and nothing that is a sentence.
REST = {
    "score": r"[\W_]*\w*(?:[\W\d_]|\b(?:out|of|points?|per ?cent|to|or|and)\b)*\Z",
    "winner": rf"(?:[\W_]|\b(?:{NOUN}|[ab]|an|it['’]s|and|or|nor|between|{TIE.pattern})\b)*\Z",
}
LEAD = r"^[-*•#_\[( \t]*(?:(?:my|the|final|total|overall)[ \t]+){0,3}[*_]*"
MIDDLE = r"(?<![\w\"'“‘`«„])[*_]*"
COLON = r"[*_\])]*[:：]"
VERDICT = {
    keyword: [
        re.compile(LEAD + keyword + COLON, re.IGNORECASE | re.MULTILINE),
        re.compile(f"{MIDDLE}{keyword}{COLON}(?={rest})", re.IGNORECASE),
    ]
    for keyword, rest in REST.items()
}
ONLY_NAMES = re.compile(REST["winner"], re.IGNORECASE)
# A sentence ends with its line, or at a full stop that no number follows; "or" makes a verdict one of several.
SENTENCE = re.compile(r"(?:[^.!?\n]|[.!?](?=\S|[ \t]*\d))*")
OTHER_BEFORE = re.compile(r"(?<![^\W_])or[\W_]*\Z", re.IGNORECASE)
OTHER_BEHIND = re.compile(r"[^\n]*\n[\W_]*or\b", re.IGNORECASE)


def read_score(text: str, scale: Scale, *, cut: bool = False) -> Reading:
    """The score that an answer ends with, by the table above; `cut` says that the answer stopped for its length."""
    own = hide_quotes(text)
    alone = ALONE.fullmatch(own)
    if alone is not None and cut:
        return Reading(None, "cut off")
    start, said = find_verdict(own, "score", cut) if alone is None else (alone.start(1), alone[1])
    if start < 0:
        return Reading(None, said)
    found = SCORE.fullmatch(said)
    if found is None:
        return Reading(None, "not one number")
    top = float(found["top"]) if found["top"] else 100.0 if found["percent"] else scale.high
    value = float(found["number"].replace(",", "."))
    if top != scale.high or not scale.holds(value):
        return Reading(None, "off the scale")
    return Reading(value, place=start + found.start("number"))


def read_winner(text: str, *, cut: bool = False) -> Reading:
    """1 where A wins, 0 where B does, 1/2 for a tie that the judge declares; by the table above."""
    start, said = find_verdict(hide_quotes(text), "winner", cut)
    if start < 0:
        return Reading(None, said)
    words = said.strip(MARKS)
    named = set(re.findall(r"\b[AB]\b", words))
    if BOTH.fullmatch(words) or TIE.search(words) and ONLY_NAMES.fullmatch(words) and len(named) != 1:
        return Reading(0.5)
    if len(named) > 1:
        return Reading(None, "names both")
    found = WINNER.match(words)
    if found is None:
        return Reading(None, "not one of the two")
    lead = len(said) - len(said.lstrip(MARKS))
    return Reading(float(found["letter"] in "Aa"), place=start + lead + found.start("letter"))


def hide_quotes(text: str) -> str:
    """`text` with every quoted character as "…": what is left stands where it stood."""
    for pattern in (QUOTED_LINES, QUOTED_BLOCKS, QUOTED_WORDS):
        text = pattern.sub(lambda found: re.sub(r"[^\n]", "…", found[0]), text)
    return text


def find_verdict(own: str, keyword: str, cut: bool) -> tuple[int, str]:
    """Where the last `keyword:` that begins a line or ends the answer stops, and its sentence; or -1, and a reason."""
    matches = [found for pattern in VERDICT[keyword] for found in pattern.finditer(own)]
    if not matches:
        return -1, f"no {keyword}"
    last = max(matches, key=re.Match.end)
    before, behind = own[:last.start()], own[last.end():]
    if len(OPENING.findall(before)) % 2 or CLOSING.search(behind.partition("\n")[0]):
        return -1, "in quotation marks"
    if OTHER_BEFORE.search(before) or OTHER_BEHIND.match(behind):
        return -1, "one of several"
    said = SENTENCE.match(behind)
    assert said is not None
    if cut and re.fullmatch(r"[\W_]*", behind[said.end():]):
        return -1, "cut off"
    return last.end(), said[0]
