"""Quoting of judged text, so that it cannot act as a turn, a tag, a special token or a verdict.

Every line gets the prefix "> ", and a space is inserted into strings that a chat template, a tokenizer or our parser
might act on. Apart from these spaces and from invisible characters, which are removed, the text stays the same.
"""

import re
import unicodedata
from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from rmkit.judges.base import Messages

MARK = "> "
ROLES = "system|user|human|assistant|ai|bot|model|developer|tool|function|ipython|observation|instruction|response"
VERDICTS = "score|winner"  # keywords of our parsers before a colon
LINE_ENDS = re.compile("\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
# Zero-width joiners belong to words of many scripts and to emoji, never to ASCII.
JOINERS = re.compile("(?<=[^\x00-\x7f])[\u200c\u200d](?=[^\x00-\x7f])")
# A space is inserted after the group that matches.
CONTROL_PATTERNS = re.compile(
    rf"(<)(?=[|/!?\w<])|(\[)(?=/?\w*[A-Z]{{2}}\w*\])|(\|)(?=>)|(#)(?=##\s*\w)"
    rf"|((?<![^\W_])(?i:{ROLES}|{VERDICTS})(?![^\W_])[*_\"'`\])\u0300-\u036f]*)(?=:)"
)


def quote(text: str, tokens: Iterable[str] = ()) -> str:
    """`text` with the prefix "> " on each line and without control strings; an empty text is one empty line.

    Broken by a space: "<|im_start|>" and its like, "[INST]", "</s>" and every other tag, "###" headings, role names and
    "Score" or "Winner" before a colon, also in full-width and other compatibility forms, and the tokenizer's special
    `tokens` if they are known. Removed: control, format and private characters, except joiners within words of other
    scripts, and combining marks on punctuation. All kinds of line ends become line feeds.
    """
    shown = break_tokens(neutralize_control_text(strip_invisible(text)), tokens)
    return "\n".join(f"{MARK}{line}" if line else MARK.rstrip() for line in shown.split("\n"))


def quote_messages(messages: Messages, tokens: Iterable[str] = ()) -> str:
    """One message quoted; several each after a line with its role, which has no prefix, unlike quoted text.

    A role that is none of `ROLES` becomes "other", because it comes with the data and may contain any text.
    """
    quoted = [quote(message["content"], tokens) for message in messages]
    if len(quoted) == 1:
        return quoted[0]
    roles = [each["role"] if re.fullmatch(ROLES, each["role"], re.IGNORECASE) else "other" for each in messages]
    return "\n".join(f"({role})\n{text}" for role, text in zip(roles, quoted, strict=True))


def break_tokens(text: str, tokens: Iterable[str]) -> str:
    """`text` with a space after the first character of each of a tokenizer's special `tokens` in it.

    Repeated until none is left, since breaking one may make another. Tokens with fewer than two visible characters
    cannot be broken by a space.
    """
    broken = {
        token: re.sub(r"\S", r"\g<0> ", token, count=1)
        for token in sorted(set(tokens), key=len, reverse=True) if len(re.sub(r"\s", "", token)) > 1
    }
    while any(token in text for token in broken):
        for token, apart in broken.items():
            text = text.replace(token, apart)
    return text


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The texts of a tokenizer's special tokens."""
    return tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)


def strip_invisible(text: str) -> str:
    """`text` with plain line ends and without invisible characters, which a normaliser may remove."""
    text = LINE_ENDS.sub("\n", text)
    kept = {found.start() for found in JOINERS.finditer(text)}
    shown: list[str] = []
    for index, character in enumerate(text):
        kind = unicodedata.category(character)
        before = shown[-1] if shown else " "
        dangling = kind == "Mn" and before.isascii() and not before.isalnum()
        if character in "\n\t" or index in kept or not (kind.startswith("C") or dangling):
            shown.append(character)
    return "".join(shown)


def neutralize_control_text(text: str) -> str:
    """`text` with a space in each control string, matched as in its NFKC form."""
    matches = CONTROL_PATTERNS.finditer(text if text.isascii() else "".join(map(nfkc_ascii, text)))
    cuts = [0, *(match.end() for match in matches), len(text)]
    return " ".join(text[start:end] for start, end in zip(cuts, cuts[1:], strict=False))


def nfkc_ascii(character: str) -> str:
    """The ASCII character of a compatibility character, such as the full-width "\uff1c"; other characters unchanged."""
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 and plain.isascii() else character
