"""Configurations: pydantic dataclasses, built from YAML and command-line words, with every key and value checked."""

import dataclasses
import difflib
import functools
import os
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from rmkit.core.checks import InputError, Verbatim, raise_input_error
from rmkit.core.config_fields import (
    admits_none, config_fields, format_field, get_extra, inner_class, list_entries, nested_class,
)
from rmkit.core.yaml import format_yaml, parse_yaml, read_yaml

Config = TypeVar("Config")


def option(
    default: Any = ..., help: str = "", *, advanced: bool = False, affects_output: bool = True, **constraints: Any
) -> Any:
    """A key of a configuration: its default (without one it is required), a sentence of help, pydantic's constraints.

    `affects_output=False`: the same output comes with any value, so the stage key leaves it out. `repr=False`: a
    secret, which is neither printed nor passed on as a command-line word.
    """
    if "default_factory" not in constraints:
        constraints["default"] = default
    extra: dict[str, Any] = {"advanced": advanced, "affects_output": affects_output}
    return Field(description=help, json_schema_extra=extra, **constraints)


def section(
    config: str, help: str, *, fixed: Sequence[str] = (), optional: bool = False, advanced: bool = False
) -> Any:
    """A `dict[str, Any]` of settings of the configuration "module:Class"; the owner sets the `fixed` ones itself.

    "module:REGISTRY" may name a mapping instead, kind -> configuration; the key `kind` of the settings then says which
    one they are of. `optional`: the default is None instead of no settings.
    """
    extra: dict[str, Any] = {"section": config, "fixed": list(fixed), "advanced": advanced}
    factory: Any = types.NoneType if optional else dict
    return Field(default_factory=factory, description=help, json_schema_extra=extra)


@dataclass_transform(kw_only_default=True)
def configuration(cls: type[Config]) -> type[Config]:
    """Make a class with `option` and `section` fields a keyword-only dataclass whose faults are `InputError`s.

    Checks across fields go into `__post_init__`, which runs after every single value was checked.
    """
    checked: Any = dataclass(kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))(cls)

    @functools.wraps(checked.__init__)
    def __init__(self: Any, /, **settings: Any) -> None:
        _fill(self, settings, "")

    checked.__init__ = __init__
    return checked


def load_config(cls: type[Config], path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Build `cls` from its defaults, then the YAML file at `path`, then `overrides` (`--key value`, `--a.b value`).

    `null` restores the default of a key that cannot be null. Raises `InputError`, which names the file or the command
    line, for an unreadable file, an unknown or missing key, or a value that is refused.
    """
    settings, sources = {}, {}
    if path is not None:
        settings = read_yaml(path)
        sources[str(path)] = list(_flatten(settings))
    changes = parse_overrides(overrides)
    if changes or path is None:
        sources["command line"] = [key for key, _ in changes]
    for key, value in changes:
        for part in reversed(key.split(".")):
            value = {part: value}
        settings = merge(settings, value)
    try:
        return cls(**settings)
    except InputError as error:
        what = str(error).partition(":")[0] + "."
        named = [name for name, keys in sources.items()
                 if any(what.startswith(f"{key}.") or f"{key}.".startswith(what) for key in keys)]
        raise InputError(f"{named[-1] if named else ' and '.join(sources)}: {error}") from None


def parse_overrides(words: Sequence[str]) -> list[tuple[str, Any]]:
    """Dotted keys and values from `--key value`, `--key=value` or, for true, `--key` alone."""
    changes = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or word == "--":
            raise_input_error("command line", "--key value", word, "Options start with two dashes.")
        key, equals, text = word[2:].partition("=")
        if not equals:
            text = remaining.pop(0) if remaining and not remaining[0].startswith("--") else "true"
        try:
            changes.append((key, parse_yaml(text)))
        except InputError:  # not YAML: a plain word
            changes.append((key, text))
    return changes


def merge(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with `changes` in their place, mapping by mapping."""
    merged = dict(settings)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of nested settings."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def build_config(cls: type[Config], settings: Mapping[str, Any], prefix: str = "") -> Config:
    """`cls(**settings)`, where errors put `prefix` before the key, such as "heads."."""
    config = cls.__new__(cls)
    _fill(config, settings, prefix)
    return config


def build_section(
    cls: type[Config], settings: Mapping[str, Any], shared: Mapping[str, Any], name: str, **fixed: Any
) -> Config:
    """The configuration of section `name`: `shared` keys that `cls` has, then `settings`, then the `fixed` keys."""
    for key in settings.keys() & fixed.keys():
        raise_input_error(f"{name}.{key}", "no value, as it is set already", settings[key], "Remove it.")
    passed = {key: value for key, value in shared.items() if key in config_fields(cls)}
    return build_config(cls, {**passed, **settings, **fixed}, f"{name}.")


def _fill(config: Any, settings: Mapping[str, Any], prefix: str) -> None:
    """Initialise `config` with `settings`, every key and value checked."""
    fields = config_fields(type(config))
    _check_keys(type(config), settings, prefix)
    values: dict[str, Any] = {}
    for key, value in settings.items():
        nested = nested_class(fields[key])
        if nested is not None and isinstance(value, Mapping):
            values[key] = build_config(nested, value, f"{prefix}{key}.")
        elif value is not None or admits_none(fields[key].annotation):
            values[key] = os.fspath(value) if isinstance(value, os.PathLike) else value
    missing = [f"{prefix}{key}" for key, field in fields.items() if field.is_required() and key not in values]
    if missing:
        raise_input_error(", ".join(missing), "a value", Verbatim("none"), "Set it in the file or as --key value.")
    for key, value in values.items():
        if _is_flag_for_number(fields[key].annotation, value):  # pydantic would take true for 1
            raise_input_error(f"{prefix}{key}", format_field(fields[key]), value, "Give the number.")
    try:
        config.__pydantic_validator__.validate_python(ArgsKwargs((), values), self_instance=config)
    except ValidationError as error:
        fault = error.errors()[0]
        reason = fault.get("ctx", {}).get("error")
        if isinstance(reason, InputError):  # of __post_init__
            raise InputError(f"{prefix}{reason}") from None
        key = str(fault["loc"][0])
        field = fields[key]
        raise_input_error(f"{prefix}{key}", format_field(field), values[key], field.description or fault["msg"])


def _parts(hint: Any) -> list[Any]:
    """An annotation and all that it is made of."""
    return [hint, *(part for inner in typing.get_args(hint) for part in _parts(inner))]


def _is_flag_for_number(hint: Any, value: Any) -> bool:
    """Whether `value` is true or false, or a list with one of them, where a number belongs."""
    parts = _parts(hint)
    number = (int in parts or float in parts) and bool not in parts and Any not in parts
    return number and any(isinstance(item, bool) for item in (value if isinstance(value, list) else [value]))


def _check_keys(cls: type, settings: Mapping[str, Any], prefix: str, fixed: Sequence[str] = (), by: str = "") -> None:
    """Refuse keys that `cls` lacks or `by` sets itself, here and in nested settings."""
    fields = config_fields(cls)
    for key, value in settings.items():
        if key in fixed:
            raise_input_error(f"{prefix}{key}", f"no value, as {by} sets it", value, "Remove it.")
        if key not in fields:
            own = [f"{prefix}{name}" for name in difflib.get_close_matches(key, fields.keys() - set(fixed), n=1)]
            dotted = (entry.name for entry in list_entries(cls, prefix, fixed))
            near = own or difflib.get_close_matches(f"{prefix}{key}", dotted, n=1, cutoff=0.0)
            hint = f"Did you mean {near[0]}?" if near else "Remove it."
            raise_input_error(f"{prefix}{key}", "a known key", Verbatim("an unknown one"), hint)
        inner = inner_class(fields[key], value) if isinstance(value, Mapping) else None
        if inner is not None:
            _check_keys(inner, value, f"{prefix}{key}.", get_extra(fields[key], "fixed", ()), cls.__name__)


def as_dict(config: Any) -> dict[str, Any]:
    """The resolved configuration as plain data."""
    return dataclasses.asdict(config)


def output_settings(config: Any) -> dict[str, Any]:
    """The settings that the output depends on: `as_dict` without what is marked `affects_output=False`."""
    return _keep_output(type(config), as_dict(config))


def _keep_output(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, value in settings.items():
        field = config_fields(cls)[key]
        if get_extra(field, "affects_output", True):
            inner = inner_class(field, value) if isinstance(value, Mapping) else None
            kept[key] = value if inner is None else _keep_output(inner, value)
    return kept


def non_default_settings(config: Any) -> dict[str, Any]:
    """The settings that differ from their default, as plain data, without secrets (`repr=False`)."""
    plain = as_dict(config)
    return {key: plain[key] for key, field in config_fields(type(config)).items()
            if field.repr and getattr(config, key) != field.get_default(call_default_factory=True)}


def to_cli_args(config: Any) -> list[str]:
    """Command-line words from which `load_config` builds an equal configuration."""
    return [f"--{key}={format_yaml(value)}" for key, value in non_default_settings(config).items()]
