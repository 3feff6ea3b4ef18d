"""YAML 1.2 in and out: `no` and dates are words, `1e-5` is a number, no key comes twice."""

import difflib
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import SafeConstructor

from rmkit.core.checks import Verbatim, raise_input_error

YAML_ERRORS = (YAMLError, ValueError, TypeError, RecursionError)  # all but the first from odd scalars, keys and depths


class _Constructor(SafeConstructor):
    """Reads what looks like a date as the text that it is."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises `InputError` with the line for anything else."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() and not path.exists() else []
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"Did you mean {path.parent / near[0]}?" if near else "Check the path."
        raise_input_error(str(path), "a readable YAML file", Verbatim(error), hint)
    try:
        settings = parse_yaml(text)
    except YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise_input_error(f"{path}:{mark.line + 1}" if mark else str(path), "valid YAML", Verbatim(problem), "Fix it.")
    if not isinstance(settings, dict | None):
        raise_input_error(str(path), "keys with values", settings, "Write `key: value` lines.")
    return settings or {}


def parse_yaml(text: str) -> Any:
    """The value that a text holds; raises one of `YAML_ERRORS`."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    value = yaml.load(text)
    _check_keys(value)
    return value


def _check_keys(value: Any) -> None:
    """Refuse keys that are not words and, by Python's limit of recursion, a mapping that holds itself."""
    for key in value if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            raise ValueError(f"key {key!r} is not a word")
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _check_keys(item)


def format_yaml(value: Any) -> str:
    """A value as YAML on one line, which `parse_yaml` reads back."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = True, sys.maxsize
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue().removesuffix("...\n").strip()
