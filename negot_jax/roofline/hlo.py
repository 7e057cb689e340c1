"""Reads the HLO text of a compiled program: its operations, the loops around them, and the devices they connect."""

from collections.abc import Iterator, Mapping
import math
import re
from typing import NamedTuple

import numpy as np

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_OPERATION = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = (?P<type>\(.*?\)|\S+) (?P<kind>[\w\-]+)\((?P<rest>.*)$")
_CALLED = re.compile(r"(?:calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_BOUND = re.compile(r" s32\[\]\S* constant\((\d+)\)")
_CHAIN = re.compile(r'chain_id="(\d+)"')
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d\w*)?)\[([\d,]*)\]")


class Operation(NamedTuple):
    """kind: such as all-gather. types, shapes: of its results. text: its line of HLO.

    around: the constructs around it, outermost first: ("while", the loop's trip count, or its upper bound if the loop
    may end early) or ("conditional", its number of branches).
    """

    kind: str
    types: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    around: tuple[tuple[str, int], ...]
    text: str

    @property
    def size(self) -> int:
        """Number of elements of the largest result."""
        return max((math.prod(shape) for shape in self.shapes), default=0)

    @property
    def arrays(self) -> list[int]:
        """Bytes of each result."""
        return [math.prod(shape) * _width(name) for name, shape in zip(self.types, self.shapes, strict=True)]

    @property
    def bytes(self) -> int:
        """Bytes of the largest result."""
        return max(self.arrays, default=0)

    @property
    def times(self) -> float:
        """How often it runs, if loops run to their end and branches are equally likely."""
        return math.prod(count if kind == "while" else 1 / count for kind, count in self.around)


def operations(text: str) -> Iterator[Operation]:
    """All operations of a module, each once per call path."""
    computations, entry, name = {}, None, None
    for line in text.splitlines():
        if not line.startswith(" ") and line.rstrip().endswith("{") and not line.startswith("HloModule"):
            name = re.match(r"(?:ENTRY )?%?([\w.\-]+)", line)[1]
            entry = name if line.startswith("ENTRY") else entry
            computations[name] = []
        elif name and (found := _OPERATION.match(line)):
            computations[name].append((found, line))

    def trips(line: str) -> int:
        """A loop's trip count: the compiler's note, or the bound that its counter is compared with."""
        if noted := _TRIPS.search(line):
            return int(noted[1])
        lines = [line for _, line in computations[_CONDITION.search(line)[1]]]
        lines += [line for outer in lines for name in _CALLED.findall(outer) for _, line in computations[name]]
        return max((int(bound) for line in lines for bound in _BOUND.findall(line)), default=1)

    def walk(name: str, around: tuple[tuple[str, int], ...]) -> Iterator[Operation]:
        for found, line in computations[name]:
            kind = found["kind"].removesuffix("-start")
            if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"  # The rest of that fusion slices one shard.
            arrays = _ARRAY.findall(found["type"])
            shapes = tuple(tuple(map(int, filter(None, sizes.split(",")))) for _, sizes in arrays)
            yield Operation(kind, tuple(name for name, _ in arrays), shapes, around, line)
            if kind not in ("while", "conditional", "call", "fusion", "async"):
                continue
            branches = _BRANCHES.search(line)
            called = _CALLED.findall(line) + (re.findall(r"[\w.\-]+", branches[1]) if branches else [])
            inner = around
            if kind in ("while", "conditional"):
                inner += ((kind, trips(line) if kind == "while" else len(called)),)
            for other in called:
                yield from walk(other, inner)

    return walk(entry, ())


def collectives(text: str) -> list[Operation]:
    """The collectives of a module. A collective that a TPU splits into overlapped steps counts once."""
    found, chains = [], set()
    for operation in operations(text):
        if operation.kind in COLLECTIVES:
            chain = _CHAIN.search(operation.text)
            step = chain and (chain[1], operation.around)
            if step not in chains:
                found.append(operation)
            chains |= {step} - {None}
    return found


def sent(operation: Operation) -> float:
    """Bytes that a device sends per run of a collective, around a ring."""
    if operation.kind in ("collective-permute", "collective-broadcast"):
        return operation.bytes
    devices = len(_groups(operation.text)[0])
    arrays = operation.arrays
    if "all-gather-start(" in operation.text:
        arrays = arrays[len(arrays) // 2 :]  # The inputs come before the outputs.
    whole = sum(arrays) * (2 if operation.kind == "all-reduce" else 1)
    if " reduce-scatter(" in operation.text:
        whole *= devices  # The result is one shard.
    return whole * (devices - 1) / devices


def axes(operation: Operation, sizes: Mapping[str, int]) -> set[str]:
    """The mesh axes along which a collective moves data. sizes: of all axes, in device order."""
    places = np.stack(np.unravel_index(np.arange(math.prod(sizes.values())), tuple(sizes.values())), axis=1)
    moved = np.any([np.ptp(places[group], axis=0) > 0 for group in _groups(operation.text)], axis=0)
    return {name for name, along in zip(sizes, moved, strict=True) if along}


def tally(text: str, sizes: Mapping[str, int]) -> dict[str, tuple[int, float, float]]:
    """The collectives by kind and mesh axes, most bytes first: their number, runs, and the bytes a device sends."""
    found: dict[str, tuple[int, float, float]] = {}
    for operation in collectives(text):
        if moved := axes(operation, sizes):  # Else each device exchanges with itself.
            name = f"{operation.kind} over {'+'.join(axis for axis in sizes if axis in moved)}"
            count, runs, total = found.get(name, (0, 0.0, 0.0))
            found[name] = (count + 1, runs + operation.times, total + operation.times * sent(operation))
    return dict(sorted(found.items(), key=lambda item: -item[1][2]))


def _width(name: str) -> float:
    """Bytes per element of a type such as bf16."""
    bits = re.search(r"\d+", name)
    return 1 if name == "pred" else int(bits[0]) / 8 if bits else 0


def _groups(text: str) -> list[list[int]]:
    """The groups of devices that exchange data, from the four notations of HLO."""
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
    """Device ids from an iota such as "[4,2]T(1,0)": arange in that shape, then transposed."""
    dims, order = re.fullmatch(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()
    devices = np.arange(math.prod(map(int, dims.split(",")))).reshape([int(x) for x in dims.split(",")])
    return (devices.transpose([int(x) for x in order.split(",")]) if order else devices).reshape(-1)
