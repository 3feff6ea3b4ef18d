"""YAML 1.2 in and out: `no` and dates are words, `1e-5` is a number, no key comes twice."""

import difflib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor

from rmkit.core.checks import Verbatim, raise_input_error

PLAIN = re.compile("[A-Za-z_/][A-Za-z0-9_./-]*")
NOT_IN_YAML = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")  # characters that YAML has to escape


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
    settings = parse_yaml(text, str(path))
    if not isinstance(settings, dict | None):
        raise_input_error(str(path), "keys with values", settings, "Write `key: value` lines.")
    return settings or {}


def parse_yaml(text: str, source: str = "text") -> Any:
    """The value that a text holds; raises `InputError` with `source` and the line for what is not YAML."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        value = yaml.load(text)
        _check_keys(value)
    except Exception as error:  # an odd scalar, such as `!!int x`, can raise anything in ruamel's constructors
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise_input_error(f"{source}:{mark.line + 1}" if mark else source, "valid YAML", Verbatim(problem), "Fix it.")
    return value


def _check_keys(value: Any) -> None:
    """Refuse keys that are not words and, by Python's limit of recursion, a mapping that holds itself."""
    for key in value if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            raise ValueError(f"key {key!r} is not a word")
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _check_keys(item)


def format_yaml(value: Any) -> str:
    """A value as one line that `parse_yaml` reads back: JSON, which YAML 1.2 includes, or a word as it stands."""
    if isinstance(value, str) and PLAIN.fullmatch(value) and parse_yaml(value) == value:
        return value
    return NOT_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
