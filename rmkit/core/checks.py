"""One form for every error about input: what, expected, got, hint."""

from typing import NoReturn


class InputError(ValueError):
    """Input that rmkit refuses. The command line prints it as one line and exits with code 2."""


class Verbatim(str):
    """A description of a value, printed as it stands instead of as a quoted value."""


def raise_input_error(what: str, expected: str, got: object, hint: str) -> NoReturn:
    """Raise `InputError` with the argument (or file and line), the requirement, the value and what to do about it.

    The message is one line. `got` is shown by `repr`, cut at 200 characters; pass text that already describes the
    value as `Verbatim`.
    """
    shown = str(got) if isinstance(got, Verbatim) else repr(got)
    if len(shown) > 200:
        shown = shown[:197] + "..."
    raise InputError(" ".join(f"{what}: expected {expected}, got {shown}. {hint}".splitlines()))
