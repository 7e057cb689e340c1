"""Reads the text of compiled programs (HLO): which operations there are, inside of which loops, over which devices."""

import math
import re
from typing import NamedTuple

import numpy as np

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_OPERATION = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = (?P<type>\(.*?\)|\S+) (?P<kind>[\w\-]+)\((?P<rest>.*)$")
_CALLED = re.compile(r"(?:calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)")


class Operation(NamedTuple):
    """kind: such as all-gather. shapes: of its results. inside: kinds of the operations around it. text: its line."""

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    inside: tuple[str, ...]
    text: str

    @property
    def size(self) -> int:
        """Elements of the largest result."""
        return max((math.prod(shape) for shape in self.shapes), default=0)


def operations(text: str) -> list[Operation]:
    """All operations of a module, each once for every way that leads to it."""
    computations, entry, name = {}, None, None
    for line in text.splitlines():
        if not line.startswith(" ") and line.rstrip().endswith("{") and not line.startswith("HloModule"):
            name = re.match(r"(?:ENTRY )?%?([\w.\-]+)", line)[1]
            entry = name if line.startswith("ENTRY") else entry
            computations[name] = []
        elif name and (found := _OPERATION.match(line)):
            computations[name].append((found, line))

    def walk(name, inside):
        for found, line in computations[name]:
            kind = found["kind"].removesuffix("-start")
            shapes = tuple(
                tuple(map(int, filter(None, x.split(",")))) for x in re.findall(r"\[([\d,]*)\]", found["type"])
            )
            yield Operation(kind, shapes, inside, line)
            branches = re.search(r"branch_computations=\{([^}]*)\}", line)
            called = _CALLED.findall(line) + (re.findall(r"[\w.\-]+", branches[1]) if branches else [])
            if kind in ("while", "conditional", "call", "fusion"):
                around = inside + ((kind,) if kind in ("while", "conditional") else ())
                for other in called:
                    yield from walk(other, around)

    return list(walk(entry, ()))


def axes(operation: Operation, sizes: dict[str, int]) -> set[str]:
    """The mesh axes along which a collective moves data. sizes: of the axes, in the order of the devices."""
    places = np.stack(np.unravel_index(np.arange(math.prod(sizes.values())), tuple(sizes.values())), axis=1)
    moved = np.any([np.ptp(places[group], axis=0) > 0 for group in _groups(operation.text)], axis=0)
    return {name for name, along in zip(sizes, moved, strict=True) if along}


def _groups(text: str) -> list[list[int]]:
    """The devices that exchange data, from the four ways in which HLO writes them."""
    numbers = lambda part: [int(x) for x in part.split(",")]
    if listed := re.search(r"(?:source_target_pairs|replica_groups)=\{\{(.*?)\}\}", text):
        return [numbers(group) for group in listed[1].split("},{")]
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=(\S*?),? ", text):
        return _iota(iota[2]).reshape(numbers(iota[1])).tolist()
    named = re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\)\))? \{(.*?)\}", text)
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
    devices = _iota(named[2] + ")") if named[2] else np.arange(math.prod(sizes.values()))
    assert ":" not in named[3], f"parts of an axis: {text}"
    along = [list(sizes).index(name) for name in re.findall(r"'(\w+)'", named[3])]
    devices = np.moveaxis(devices.reshape(list(sizes.values())), along, range(-len(along), 0))
    return devices.reshape(-1, math.prod(list(sizes.values())[axis] for axis in along)).tolist()


def _iota(text: str) -> np.ndarray:
    """Device numbers from "[4,2]T(1,0)": counted up in that shape, then transposed."""
    dims, order = re.fullmatch(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()
    devices = np.arange(math.prod(map(int, dims.split(",")))).reshape([int(x) for x in dims.split(",")])
    return (devices.transpose([int(x) for x in order.split(",")]) if order else devices).reshape(-1)
