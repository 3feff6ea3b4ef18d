"""One shape for every complaint about input: what, expected, seen, remedy."""

from typing import NoReturn


class InputError(ValueError):
    """Input that rmkit refuses. The command line prints it as one line and exits with code 2."""


def raise_input_error(what: str, expected: str, seen: object, remedy: str) -> NoReturn:
    """Raise `InputError` naming the argument (or file and line), the requirement, the value seen and the remedy.

    The message is one line. `seen` is shown by `repr`, cut at 200 characters; pass text that already describes the
    value through `Verbatim`.
    """
    shown = str(seen) if isinstance(seen, Verbatim) else repr(seen)
    if len(shown) > 200:
        shown = shown[:197] + "..."
    message = f"{what}: expected {expected}, got {shown}. {remedy}"
    raise InputError(" ".join(message.splitlines()))


class Verbatim(str):
    """A description of what was seen, printed as it stands instead of as a quoted value."""
