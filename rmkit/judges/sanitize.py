"""Quotation: text that is judged, shown to a language model in a way that it cannot pose as anything else.

Every line of it stands behind "> ", so that no line of it begins as a turn, a tag or a verdict begins; and within a
line a space is put into whatever a chat template, a tokenizer or our parser might act on. What a person reads stays
as it was, but for that space and for characters that nobody sees.
"""

import re
import unicodedata
from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from rmkit.judges.base import Messages

MARK = "> "
ROLES = "system|user|human|assistant|ai|bot|model|developer|tool|function|ipython|observation|instruction|response"
VERDICTS = "score|winner"  # what our parsers look for, where a colon follows, behind marks of any number
LINE_ENDS = re.compile("\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
# Zero-width joiners belong to words of many scripts and to emoji, never to ASCII.
JOINERS = re.compile("(?<=[^\x00-\x7f])[\u200c\u200d](?=[^\x00-\x7f])")
# Whatever the group that matches holds is followed by a space.
CONTROL_PATTERNS = re.compile(
    rf"(<)(?=[|/!?\w<])|(\[)(?=/?\w*[A-Z]{{2}}\w*\])|(\|)(?=>)|(#)(?=##\s*\w)"
    rf"|((?<![^\W_])(?i:{ROLES}|{VERDICTS})(?![^\W_])[*_\"'`\])\u0300-\u036f]*)(?=:)"
)


def quote(text: str, tokens: Iterable[str] = ()) -> str:
    """`text` as quoted lines, each behind "> ", without a string that acts; an empty text is one empty line.

    Broken by a space: "<|im_start|>" and its like, "[INST]", "</s>" and every other tag, "###" headings, role names and
    "Score" or "Winner" before a colon, also in full-width and other compatibility forms, and the tokenizer's own
    special `tokens` where they are known. Removed: control, format and private characters, joiners within words of
    other scripts excepted, and marks that stand on punctuation. Every kind of line end is one.
    """
    shown = break_tokens(neutralize_control_text(strip_invisible(text)), tokens)
    return "\n".join(f"{MARK}{line}" if line else MARK.rstrip() for line in shown.split("\n"))


def quote_messages(messages: Messages, tokens: Iterable[str] = ()) -> str:
    """One message quoted; several with the role of each before it, on a line that no quoted text can look like.

    A role that is none of `ROLES` stands as "other": it comes with the data, and might say anything.
    """
    quoted = [quote(message["content"], tokens) for message in messages]
    if len(quoted) == 1:
        return quoted[0]
    roles = [each["role"] if re.fullmatch(ROLES, each["role"], re.IGNORECASE) else "other" for each in messages]
    return "\n".join(f"({role})\n{text}" for role, text in zip(roles, quoted, strict=True))


def break_tokens(text: str, tokens: Iterable[str]) -> str:
    """`text` with a space behind the first letter or mark of each of a tokenizer's special `tokens` in it.

    Until none is left: what breaks one may make another. A token with fewer than two of them, no space can break.
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
    """A tokenizer's special tokens, as they are spelt."""
    return tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)


def strip_invisible(text: str) -> str:
    """`text` with plain line ends, without what nobody sees and a normaliser may take away."""
    text = LINE_ENDS.sub("\n", text)
    kept = {found.start() for found in JOINERS.finditer(text)}
    shown: list[str] = []
    for place, character in enumerate(text):
        kind = unicodedata.category(character)
        before = shown[-1] if shown else " "
        dangling = kind == "Mn" and before.isascii() and not before.isalnum()
        if character in "\n\t" or place in kept or not (kind.startswith("C") or dangling):
            shown.append(character)
    return "".join(shown)


def neutralize_control_text(text: str) -> str:
    """`text` with a space in each string that acts, found as a normaliser would see it."""
    found = CONTROL_PATTERNS.finditer(text if text.isascii() else "".join(map(nfkc_ascii, text)))
    cuts = [0, *(match.end() for match in found), len(text)]
    return " ".join(text[start:end] for start, end in zip(cuts, cuts[1:], strict=False))


def nfkc_ascii(character: str) -> str:
    """The ASCII character that a compatible one stands for, such as the full-width "\uff1c"; another as it is."""
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 and plain.isascii() else character
