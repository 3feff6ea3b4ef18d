"""What the fields of a configuration say: their keys, nested keys, types and constraints."""

import importlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "of length >=", "max_length": "of length <="}


class Entry(NamedTuple):
    """A key as the command line spells it; `kind`: the only kind of a registry that has it."""

    name: str
    field: FieldInfo
    advanced: bool
    kind: str = ""


def list_entries(cls: type, prefix: str = "", fixed: Sequence[str] = (), advanced: bool = False) -> Iterator[Entry]:
    """The keys of a configuration without the `fixed` ones, those of nested ones and sections with dotted names."""
    for key, field in config_fields(cls).items():
        if key not in fixed:
            entry = Entry(prefix + key, field, advanced or get_extra(field, "advanced", False))
            yield entry
            for kind, inner in inner_classes(field).items():
                entries = list_entries(inner, f"{entry.name}.", get_extra(field, "fixed", ()), entry.advanced)
                yield from (nested._replace(kind=kind or nested.kind) for nested in entries
                            if not kind or nested.name != f"{entry.name}.kind")


def config_fields(cls: type) -> dict[str, FieldInfo]:
    """The fields of a configuration by name."""
    return cls.__pydantic_fields__  # type: ignore[attr-defined]


def get_extra(field: FieldInfo, name: str, default: Any) -> Any:
    """What `option` or `section` noted about a field beside pydantic's own facts."""
    extra = field.json_schema_extra
    return extra.get(name, default) if isinstance(extra, dict) else default


def nested_class(field: FieldInfo) -> type | None:
    """The configuration that a field holds, bare or optional, if any."""
    candidates = (field.annotation, *typing.get_args(field.annotation))
    return next((kind for kind in candidates if isinstance(kind, type) and hasattr(kind, "__pydantic_fields__")), None)


def inner_classes(field: FieldInfo) -> dict[str, type]:
    """The configurations whose keys a field may hold, nested or as a section, by kind; "" for the only one."""
    reference = get_extra(field, "section", None)
    target = import_object(reference) if reference else nested_class(field)
    if isinstance(target, Mapping):
        return dict(target)
    return {} if target is None else {"": target}


def inner_class(field: FieldInfo, settings: Mapping[str, Any]) -> type | None:
    """The configuration of a field's settings; None if there is none, or none of their kind."""
    classes = inner_classes(field)
    return classes.get("") or classes.get(str(settings.get("kind")))


def import_object(reference: str) -> Any:
    """The object that "module:name" stands for."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def format_field(field: FieldInfo) -> str:
    """A field's type with its constraints, such as "int >= 2 or null"."""
    return format_type(field.annotation, field.metadata)


def format_type(hint: Any, metadata: Sequence[Any] = ()) -> str:
    """An annotation with its constraints, in words."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    bounds = [f"{sign} {getattr(item, name)}" for item in metadata for name, sign in BOUNDS.items()
              if getattr(item, name, None) is not None]
    if origin is typing.Annotated:
        return format_type(args[0], [part for item in args[1:] for part in getattr(item, "metadata", [item])])
    if origin in (typing.Union, types.UnionType):
        kinds = [format_type(kind) for kind in args if kind is not types.NoneType]
        return " ".join([" or ".join(kinds), " and ".join(bounds)]).strip() + " or null" * admits_none(hint)
    if origin is typing.Literal:
        text = f"one of {', '.join(map(str, args))}" if len(args) > 1 else str(args[0])
    elif origin is list:
        text = f"list of {format_type(args[0])}"
    elif dict in (hint, origin) or hasattr(hint, "__pydantic_fields__"):
        text = "mapping"
    else:
        text = "any value" if hint is Any else getattr(hint, "__name__", str(hint))
    return f"{text} {' and '.join(bounds)}".strip()


def admits_none(hint: Any) -> bool:
    """Whether None is a value of its own for an annotation."""
    return hint is Any or types.NoneType in typing.get_args(hint)
