"""Parses policy specs, as configs and tables write them: `linear` or `linear(start=0.4, end=1.0)`."""

import ast
from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, TypeVar

from negot_jax.config import require_known
from negot_jax.game.types import MAX_PRICE

Policy = TypeVar("Policy")


def make(policies: Mapping[str, Policy], spec: str, **overrides: Any) -> Policy:
    """The policy of `policies`, frozen dataclasses, that `spec` names, with the fields that it or `overrides` gives.

    Their values are literals, names, or specs. Raises ValueError if the spec is malformed, the name or a field is
    unknown, or a value has the wrong type.
    """
    try:
        node = ast.parse(spec, mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
        if not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("fields are given by name")
        names = [keyword.arg for keyword in call.keywords]
        if None in names or len(set(names)) < len(names):
            raise ValueError("each field is given once, by its name")
        name = call.func.id
        fields = {keyword.arg: _value(keyword.value) for keyword in call.keywords} | overrides
    except (SyntaxError, TypeError, ValueError) as error:  # TypeError: a key of a dict that cannot be one.
        raise ValueError(f"policy {spec!r} cannot be read ({error}); write name or name(field=value)") from error
    policy = policies[require_known("policy", name, policies)]
    # Only numbers and text can be written in a spec; a persona, say, belongs to the name.
    known = [field.name for field in dataclasses.fields(policy) if isinstance(getattr(policy, field.name), _VALUES)]
    for field, value in fields.items():
        _require_like(value, getattr(policy, require_known(f"field of {name}", field, known)), f"{name}.{field}")
    return dataclasses.replace(policy, **fields)


def with_field(spec: str, field: str, value: Any) -> str:
    """A spec that can be read, with one field set."""
    node = ast.parse(spec, mode="eval").body
    name, given = (node.func, node.keywords) if isinstance(node, ast.Call) else (node, [])
    fields = [*(own for own in given if own.arg != field), ast.keyword(field, ast.Constant(value))]
    return ast.unparse(ast.Call(name, [], fields))


_VALUES = int | float | tuple | str


def _value(node: ast.expr) -> Any:
    """A literal; a name or another spec needs no quotation marks."""
    if isinstance(node, ast.Name | ast.Call):
        return ast.unparse(node)
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"{ast.unparse(node)} is not a literal") from error


def _require_like(value: Any, default: Any, field: str) -> None:
    """Raises ValueError unless `value` is like `default`: of its type, or as many numbers; of one, any number."""
    values, defaults = (x if isinstance(x, tuple) else (x,) for x in (value, default))
    if isinstance(default, tuple) and len(default) == 1:
        defaults = default * len(values)
    kinds = [(int, float) if isinstance(default, float) else type(default) for default in defaults]
    fits = isinstance(value, tuple) == isinstance(default, tuple) and len(values) == len(defaults)
    # A bool is an int to Python.
    like = lambda x, kind: isinstance(x, kind) and isinstance(x, bool) == (kind is bool)
    if not fits or not all(map(like, values, kinds)):
        raise ValueError(f"{field}={value!r}: must have the type of its default, {default!r}")
    if any(isinstance(x, (int, float)) and not abs(x) <= MAX_PRICE for x in values):
        raise ValueError(f"{field}={value!r}: must be a number of at most {MAX_PRICE}")


def require_named(field: str, make: Callable[[str], Policy], spec: str) -> Policy:
    """The policy that `make` reads from the spec. Its ValueError names the configuration's field, or the flag."""
    try:
        return make(spec)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error


def require_tick(policy: Any) -> None:
    require(policy, "tick", 1 <= policy.tick <= MAX_PRICE, f"from 1 cent to {MAX_PRICE}")


def require(policy: Any, field: str, holds: bool, wanted: str) -> None:
    """Raises ValueError, naming policy, field, value and the allowed range, unless `holds`."""
    if not holds:
        raise ValueError(f"{type(policy).__name__}.{field}={getattr(policy, field)!r}: must be {wanted}")
