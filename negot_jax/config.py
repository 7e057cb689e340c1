"""Converts configurations: a mutable `ConfigDict` of `ml_collections` outside, frozen dataclasses inside.

A config class is a frozen dataclass whose every field is made by `field`, so that `cls()` is the default
configuration and every option has a help line. A field's type is one of bool, int, float, str, `Literal[...]`,
`X | None`, `tuple[X, ...]`, or another config class. The instances are hashable, hence static under `jax.jit`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import difflib
import types
import typing
from typing import Any, Literal, TypeVar

from ml_collections import config_dict

Config = TypeVar("Config")
_UNIONS = (typing.Union, types.UnionType)


def nearest(name: str, known: Iterable[str]) -> str:
    """The name of `known`, which must not be empty, that `name` most likely misspells."""
    return difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)[0]


def require_known(what: str, name: str, known: Iterable[str]) -> str:
    """Returns `name` if it is in `known`; otherwise raises ValueError and suggests the nearest."""
    if name not in (known := list(known)):
        near = f"did you mean {nearest(name, known)!r}? Known: {', '.join(known)}" if known else "there is none"
        raise ValueError(f"{what} {name!r} is unknown; {near}")
    return name


def require(section: str, config: Any, names: str, holds: Callable[[Any], bool], told: str) -> None:
    """Raises ValueError, with what is told, unless something holds for each of these fields, separated by spaces."""
    for name in names.split():
        if not holds(getattr(config, name)):  # Tests for valid, not for invalid: NaN fails every comparison.
            raise ValueError(f"{section}.{name}={getattr(config, name)} {told}")


def require_least(section: str, config: Any, least: float, names: str) -> None:
    require(section, config, names, lambda value: value >= least, f"must be at least {least}.")


def field(default: Any, help: str) -> Any:
    """A dataclass field with a default and the help line that `help_text` prints."""
    return dataclasses.field(default=default, metadata={"help": help})


def replace(config: Config, values: config_dict.ConfigDict | Mapping[str, Any], path: str = "") -> Config:
    """`config`, which errors call `path`, with some fields set; a nested mapping sets fields of a nested config.

    An int stands for a float and a list for a tuple; nothing else is converted. Raises ValueError for a key that is no
    field, with the nearest one, and for a value outside a `Literal`; TypeError for one of another type.
    """
    hints, new = _hints(type(config)), {}
    for key, value in dict(values).items():
        if key not in hints:
            raise ValueError(f"unknown config field {path}{key} = {value!r}: did you mean {path}{nearest(key, hints)}?")
        new[key] = _convert(hints[key], value, path + key, getattr(config, key))
    return dataclasses.replace(config, **new)


def to_config_dict(config: Any) -> config_dict.ConfigDict:
    """The `ConfigDict` that `replace` turns back into `config`; a None becomes a placeholder of its type."""
    values = {}
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            value = to_config_dict(value)
        elif value is None and not dataclasses.is_dataclass(arm := _without_none(hint)):
            choices = typing.get_args(arm) if typing.get_origin(arm) is Literal else ()
            value = config_dict.placeholder(type(choices[0]) if choices else typing.get_origin(arm) or arm)
        values[name] = value
    return config_dict.ConfigDict(values)


def require_field(cls: type, path: str) -> None:
    """Raises ValueError, which names the nearest field, of its group if there is one, unless `cls` has the field."""
    known = [path for path, *_ in _fields(cls(), "")]
    if path in known:
        return
    group = path[: path.rfind(".") + 1]
    within = [name.removeprefix(group) for name in known if name.startswith(group)]
    near = group + nearest(path.removeprefix(group), within) if within else nearest(path, known)
    raise ValueError(f"unknown config field {path}: did you mean {near}?")


def is_group(cls: type, path: str) -> bool:
    """Whether a dotted path is a config class with fields of its own."""
    return any(name.startswith(f"{path}.") for name, *_ in _fields(cls(), ""))


def help_text(cls: type) -> str:
    """One entry per field of `cls`, nested ones by their dotted path: type, default and help line."""
    lines = []
    for path, item, hint, value in _fields(cls(), ""):
        if "help" not in item.metadata:
            raise TypeError(f"{path} has no help line: make it with config.field")
        default = "" if dataclasses.is_dataclass(value) else f" = {value!r}"
        lines += [f"{path}: {_name(hint)}{default}", f"    {item.metadata['help']}"]
    return "\n".join(lines)


def _fields(config: Any, path: str) -> Iterator[tuple[str, dataclasses.Field, Any, Any]]:
    """Yields dotted path, field, type and value of each field, those of a nested config after it."""
    hints = _hints(type(config))
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        yield path + item.name, item, hints[item.name], value
        if dataclasses.is_dataclass(arm := _without_none(hints[item.name])):
            yield from _fields(arm() if value is None else value, f"{path}{item.name}.")


def _convert(hint: Any, value: Any, path: str, default: Any = None) -> Any:
    """Returns `value` as the type `hint`; a nested config keeps what it does not set from `default`."""
    if (arm := _without_none(hint)) is not hint:
        return None if value is None else _convert(arm, value, path, default)
    if typing.get_origin(hint) is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in typing.get_args(hint)):
            raise ValueError(f"config field {path} = {value!r} is not one of {_name(hint)}")
        return value
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        item, ellipsis = typing.get_args(hint)
        assert ellipsis is Ellipsis, f"{path}: write tuple[X, ...], not {_name(hint)}"
        return tuple(_convert(item, x, f"{path}[{i}]") for i, x in enumerate(value))
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping | config_dict.ConfigDict):
        return replace(hint() if default is None else default, value, path + ".")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise TypeError(f"config field {path} = {value!r} is of type {type(value).__name__}, not {_name(hint)}")
    return value


def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {item.name: hints[item.name] for item in dataclasses.fields(cls)}


def _without_none(hint: Any) -> Any:
    """Returns X of `X | None` (or of `Optional[X]`), and any other type as it is."""
    arms = [arm for arm in typing.get_args(hint) if arm is not types.NoneType]
    return arms[0] if typing.get_origin(hint) in _UNIONS and len(arms) == 1 else hint


def _name(hint: Any) -> str:
    args = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return " | ".join(map(repr, args))
    if typing.get_origin(hint) in _UNIONS:
        return " | ".join(map(_name, args))
    if args:
        return str(hint)
    return "None" if hint is types.NoneType else hint.__name__
