"""Scripted policies by name: `linear` or `linear(start=0.4, end=1.0)`, as they stand in configs and tables."""

import ast
from collections.abc import Mapping, Sequence
import dataclasses
import difflib
from typing import Any


def make(policies: Mapping[str, Any], spec: str, **overrides: Any) -> Any:
    """The policy named by `spec`, with the given fields in place of its own.

    Args:
      policies: named instances of frozen dataclasses.
      spec: a name, or a name with fields in the manner of a call, values literal.
      **overrides: more fields, as Python values.

    Raises:
      ValueError: the spec cannot be read, the name or a field is unknown, or a value is of another kind.
    """
    try:
        node = ast.parse(spec, mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
        if not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("fields are given by name")
        name = call.func.id
        fields = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords} | overrides
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"policy {spec!r} cannot be read ({error}); write name or name(field=value)") from error
    policy = policies[_known("policy", name, list(policies))]
    known = [field.name for field in dataclasses.fields(policy)]
    for field, value in fields.items():
        _require_like(value, getattr(policy, _known(f"field of {name}", field, known)), f"{name}.{field}")
    return dataclasses.replace(policy, **fields)


def _require_like(value: Any, default: Any, field: str) -> None:
    """Raises ValueError unless a value is a number, or as many numbers, of its default's kind."""
    values, defaults = (x if isinstance(x, tuple) else (x,) for x in (value, default))
    kinds = [int if isinstance(number, int) else (int, float) for number in defaults]
    fits = isinstance(value, tuple) == isinstance(default, tuple) and len(values) == len(defaults)
    if not fits or any(isinstance(x, bool) or not isinstance(x, kind) for x, kind in zip(values, kinds, strict=True)):
        raise ValueError(f"{field}={value!r}: must be of the kind of {default!r}, its value by default")


def _known(what: str, name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
    raise ValueError(f"{what} {name!r} is unknown; did you mean {nearest[0]!r}? Known: {', '.join(names)}")


def require(policy: Any, field: str, holds: bool, wanted: str) -> None:
    """Raises ValueError, naming policy, field, value and what is wanted, unless `holds`."""
    if not holds:
        raise ValueError(f"{type(policy).__name__}.{field}={getattr(policy, field)!r}: must be {wanted}")
