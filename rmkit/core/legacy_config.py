"""OLD parser, kept only until every command uses rmkit.core.config.

Configuration: a dataclass, filled from YAML, overridden from the command line.

Every key is checked against the dataclass's fields and every value against its annotation, so that a misspelt
key or a word where a number belongs stops the run before it starts, with the place named.
"""

import dataclasses
import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from rmkit.core import config as new
from rmkit.core.checks import InputError, Verbatim, raise_input_error

Config = TypeVar("Config")


def load_config(cls: type[Config], path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Build `cls` from its defaults, then the YAML file at `path`, then `overrides` (`--key value`, `--a.b value`).

    Raises `InputError` for an unreadable file, an unknown key (naming the nearest one), a missing required key or
    a value of the wrong type.
    """
    if hasattr(cls, "__pydantic_fields__"):
        return new.load_config(cls, path, overrides)
    settings = read_yaml(path) if path is not None else {}
    where = str(path) if path is not None else "command line"
    if overrides:
        merge(settings, parse_overrides(overrides))
        where = f"{where} and command line" if path is not None else where
    return build_config(cls, settings, where)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise_input_error(str(path), "a readable YAML file", Verbatim(error), "Check the path.")
    try:
        settings = yaml.load(text, Loader=StrictLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise_input_error(f"{path}{line}", "valid YAML", Verbatim(problem), "Mend the line.")
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise_input_error(str(path), "keys with values", settings, "Write `key: value` lines.")
    return settings


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Nested settings from `--key value`, `--key=value` and dotted `--a.b value`; a flag without value is true."""
    settings: dict[str, Any] = {}
    position = 0
    while position < len(arguments):
        word = arguments[position]
        position += 1
        if not word.startswith("--") or word == "--":
            raise_input_error("command line", "--key value", word, "Options start with two dashes.")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if position < len(arguments) and not arguments[position].startswith("--"):
                text = arguments[position]
                position += 1
            else:
                text = "true"
        try:
            value = yaml.load(text, Loader=StrictLoader)
        except yaml.YAMLError:
            value = text
        for part in reversed(key.split(".")):
            value = {part: value}
        merge(settings, value)
    return settings


def merge(settings: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Lay `changes` over `settings` in place, section by section."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(settings.get(key), dict):
            merge(settings[key], value)
        else:
            settings[key] = dict(value) if isinstance(value, Mapping) else value


def build_config(cls: type[Config], settings: Mapping[str, Any], where: str) -> Config:
    """An instance of the dataclass `cls` from `settings`, every key and value checked."""
    if hasattr(cls, "__pydantic_fields__"):
        return new.build_config(cls, settings, f"{where}: ")
    checked = check(cls, settings, where)
    required = {
        field.name
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - set(checked))
    if missing:
        raise_input_error(
            where, f"a value for {', '.join(missing)}", Verbatim("none"), "Set it in the file or as --key value."
        )
    try:
        return cls(**checked)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def check(cls: type, settings: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Any]:
    """`settings` as keyword arguments for the dataclass `cls`, with nested dataclasses built."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    checked: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in names:
            nearest = difflib.get_close_matches(str(key), names, n=1, cutoff=0.0)
            remedy = f"Did you mean {prefix}{nearest[0]}?" if nearest else "Remove it."
            raise_input_error(f"{where}: {prefix}{key}", "a known key", Verbatim("an unknown one"), remedy)
        section = section_class(hints[key])
        if section is not None and isinstance(value, Mapping):
            checked[key] = build_config(section, value, f"{where}: {prefix}{key}")
            continue
        accepted = {hints[key], *typing.get_args(hints[key])}
        if isinstance(value, bool) and accepted & {int, float} and bool not in accepted:  # a flag without its number
            raise_input_error(f"{where}: {prefix}{key}", spell(hints[key]), value, "Give the number.")
        try:
            checked[key] = pydantic.TypeAdapter(hints[key]).validate_python(value)
        except pydantic.ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise_input_error(f"{where}: {prefix}{key}", spell(hints[key]), value, f"({problem})")
        except pydantic.errors.PydanticSchemaGenerationError:
            checked[key] = value  # a type of another library's own, which checks it itself
    return checked


def section_class(hint: Any) -> type | None:
    """The dataclass that a field's annotation holds, bare or optional, if any."""
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
            return candidate
    return None


def spell(hint: Any) -> str:
    """An annotation as a person would say it."""
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(hint))
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")


def as_dict(config: Any) -> dict[str, Any]:
    """The resolved configuration as plain data, to store with the output."""
    return dataclasses.asdict(config)


class StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (YAML would silently keep the last) or one that is not a word.

    Only `true` and `false` are truth values: YAML 1.1 would also read the `no` of `save_strategy: no` as one.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError) as error:  # what looks like a date or a number and is none
            problem = f"{getattr(node, 'value', '')!s:.40} cannot be read ({error})"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *name` lays another mapping under this one
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


TRUTH = re.compile("^(?:true|false)$", re.IGNORECASE)
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", TRUTH, list("tTfF"))
