"""How arrays are sharded over a mesh of devices: one table, by the weights' names.

A mesh has four axes. `data` replicates the model; each replica has rows of its own. `fsdp` shards weights, which are
gathered a layer at a time, and rows. `tensor` shards heads, hidden widths and the vocabulary. `expert` shards the
experts, which never move, and rows: between layers every device has its own rows, so no cache ever moves.

Everything also runs on one device without a mesh. Axes have type Auto: the specs are constraints, and the compiler
chooses the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import math
import os

import jax
from jax.experimental import layout, mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from negot_jax.config import field
from negot_jax.models import lora
from negot_jax.models.presets import ModelConfig

AXES = DATA, FSDP, TENSOR, EXPERT = "data", "fsdp", "tensor", "expert"
ROWS = (DATA, FSDP, EXPERT)  # Rows of a batch are sharded over all of these.

# The spec of one layer's array. Norms, the router and the critic are absent: they are replicated. The axis of
# layers comes first and is never sharded; then that of experts, if there are any, over `expert`. An optimizer's moment,
# whose path ends in its weight's name, is sharded like the weight.
SPECS = {
    "ends.embedding": P(TENSOR, FSDP),
    "ends.unembedding": P(TENSOR, FSDP),
    **{f"blocks.attention.{name}": P(FSDP, TENSOR, None) for name in ("query", "key", "value")},
    **{f"blocks.attention.{name}_bias": P(TENSOR, None) for name in ("query", "key", "value")},
    "blocks.attention.out": P(TENSOR, None, FSDP),
    **{f"blocks.{mlp}.{name}": P(FSDP, TENSOR) for mlp in ("mlp", "dense") for name in ("gate", "up")},
    **{f"blocks.{mlp}.down": P(TENSOR, FSDP) for mlp in ("mlp", "dense")},
}
for _weight, _cut in list(SPECS.items()):  # An adapter's A is cut like its target's inputs, its B like the outputs.
    if (_target := _weight.split(".")[-1]) in lora.AXES:
        _inputs = lora.AXES[_target][0]
        SPECS[f"lora.{_target}.a"] = P(*_cut[:_inputs], None)
        SPECS[f"lora.{_target}.b"] = P(None, *_cut[_inputs:])
_FORCED = "xla_force_host_platform_device_count"
_MOST_CORES = 8  # A device for each of many cores would have too few rows.
CACHE = P(ROWS, TENSOR, None, None)  # Keys [B, K, H, S] and values [B, K, S, H] of a layer.


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """The mesh that a run is spread over. It changes no result but by rounding, and may change when a run resumes."""

    data: int = field(-1, "copies of the model, with rows of their own; -1: the devices left, or as many cores as fit")
    fsdp: int = field(1, "parts that weights and rows are cut into; a layer's weights are gathered when it needs them")
    tensor: int = field(1, "parts that attention heads, hidden widths and the vocabulary are cut into")
    expert: int = field(1, "parts that experts and rows are cut into; tokens are sent to the experts, which stay")

    def __post_init__(self):
        sizes = {name: getattr(self, name) for name in AXES}
        for name, size in sizes.items():
            if size != -1 and size < 1:
                raise ValueError(f"mesh.{name}={size}: use 1 or more, or -1 for the devices that are left.")
        if list(sizes.values()).count(-1) > 1:
            both = ", ".join(f"mesh.{name}" for name, size in sizes.items() if size == -1)
            raise ValueError(f"{both} are -1, and only one axis can take the devices that are left. Give the others.")

    def sizes(self, devices: int) -> dict[str, int]:
        """The size of each axis on this many devices. Raises ValueError if the axes do not multiply to them."""
        sizes = {name: getattr(self, name) for name in AXES}
        given = math.prod(size for size in sizes.values() if size != -1)
        if devices % given or (-1 not in sizes.values() and devices != given):
            told = f"the axes multiply to {given}"
            if -1 in sizes.values():
                told = f"the other axes multiply to {given}, which does not divide that"
            raise ValueError(
                f"{_written(sizes)} cannot be laid over {devices} devices: {told}. "
                f"The nearest mesh that can: {_written(next(_near(sizes, devices)))}."
            )
        return {name: devices // given if size == -1 else size for name, size in sizes.items()}


def use_cores() -> None:
    """Makes each core of a CPU a device, over which rows are sharded as over chips, unless JAX has started.

    XLA runs much of a device's program on one thread. JAX_NUM_CPU_DEVICES or the flag in XLA_FLAGS sets the number.
    """
    chosen = jax.config.jax_num_cpu_devices > 0 or _FORCED in os.environ.get("XLA_FLAGS", "")
    if not chosen:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with contextlib.suppress(RuntimeError):  # JAX has started.
            jax.config.update("jax_num_cpu_devices", min(cores, _MOST_CORES))


def devices(config: MeshConfig, model: ModelConfig, rows: Mapping[str, int]) -> Sequence[jax.Device]:
    """The devices to lay a mesh over: all, but of a CPU's cores no more than fit; arguments as in `require_fit`."""
    every = jax.devices()
    if every[0].platform != "cpu" or jax.process_count() > 1:
        return every

    for count in range(len(every), 0, -1):
        with contextlib.suppress(ValueError):  # Its axes do not multiply to so many.
            if not _misfits(config.sizes(count), model, rows):
                return every[:count]
    return every


def make(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over these devices, or over all."""
    devices = jax.devices() if devices is None else devices
    sizes = tuple(config.sizes(len(devices)).values())
    # An axis may be a part of one of the network's: of 8 x 8 chips, 4 x 16.
    grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def require_fit(config: MeshConfig, devices: int, model: ModelConfig, rows: Mapping[str, int]) -> None:
    """Refuses a mesh that does not divide the model or the rows of its batches: names what does not fit, and one that
    does.

    Key-value heads and the vocabulary need not divide: where they do not, each device has them whole. rows: row counts
    that are sharded over the devices, by the name that the user knows. Raises ValueError.
    """
    sizes = config.sizes(devices)
    if not (problems := _misfits(sizes, model, rows)):
        return
    fitting = next((near for near in _near(sizes, devices) if not _misfits(near, model, rows)), None)
    instead = f"{_written(fitting)} fits" if fitting else "No mesh of these devices fits; change those numbers"
    raise ValueError(f"{_written(sizes)} does not fit: {'; '.join(problems)}. {instead}.")


def leaf_name(path: jax.tree_util.KeyPath) -> str:
    """A weight's name by its path in a tree, such as "blocks.attention.query"."""
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")


def spec(name: str, ndim: int) -> P:
    """The table's spec for an array whose name ends in a weight's; anything else is replicated.

    Weights in a pool (`rl.self_play`) have one more dimension, which is not cut.
    """
    if ndim and ".pools." in f".{name}":
        return P(None, *spec(name.rpartition("pools.")[2], ndim - 1))
    own = next((own for weight, own in SPECS.items() if f".{name}".endswith(f".{weight}")), None)
    return P() if own is None else P(*(None, EXPERT)[: ndim - len(own)], *own)


def shardings(tree, mesh: Mesh):
    """The sharding of each array (or shape) of a tree on a mesh, by the table."""
    of = lambda leaf, wanted: NamedSharding(mesh, effective_spec(mesh.shape, wanted, leaf.shape))
    return _by_table(of, tree)


def current_mesh() -> Mesh:
    """The mesh of `jax.set_mesh`, which is empty where none was set."""
    # jax 0.7, Colab's, has no public name for it.
    return (getattr(jax.sharding, "get_mesh", None) or jax._src.mesh.get_concrete_mesh)()


def shard(tree):
    """Shards arrays over the current mesh by the table; does nothing without one.

    Every process passes the same arrays, and places what its own devices hold.
    """
    mesh = current_mesh()
    return tree if mesh.empty else jax.device_put(tree, shardings(tree, mesh))


def effective_spec(sizes: Mapping[str, int], wanted: P, shape: tuple[int, ...]) -> P:
    """A spec without axes that do not divide their dimension, in its shortest form: another would compile again."""
    kept = []
    for size, names in zip(shape, (*wanted, *[None] * (len(shape) - len(wanted))), strict=True):
        names = (names,) if isinstance(names, str) else names or ()
        names = tuple(name for name in names if sizes[name] > 1)
        even = names and size % math.prod(sizes[name] for name in names) == 0
        kept.append((names if len(names) > 1 else names[0]) if even else None)
    while kept and kept[-1] is None:
        kept.pop()
    return P(*kept)


def _by_table(act, tree):
    """act(array, its spec by the table) of each array of a tree."""
    return jax.tree_util.tree_map_with_path(lambda path, x: act(x, spec(leaf_name(path), x.ndim)), tree)


def constrain(tree):
    """Inside a program: constrains every array to the table's sharding; does nothing without a mesh."""
    return _by_table(_constrain, tree)


def replicate(tree):
    """Inside a program: replicates each array on every device; does nothing without a mesh."""
    return jax.tree.map(lambda x: _constrain(x, P()), tree)


def cast_weights(tree, dtype):
    """Casts the weights that `fsdp` shards, which are the large ones; else every use would cast them again."""
    return _by_table(lambda x, wanted: x.astype(dtype) if FSDP in wanted else x, tree)


def gather_weights(tree, dtype):
    """Inside a program: casts weights and all-gathers them, once before decoding; else every step would do so again."""
    gather = lambda x, wanted: _constrain(x, drop_axis(FSDP, wanted)) if FSDP in wanted else x
    return _by_table(gather, cast_weights(tree, dtype))


def drop_axis(axis: str, wanted: P) -> P:
    """The spec without this axis: the dimension that it shards is whole."""
    return P(*(None if name == axis else name for name in wanted))


def shard_rows(tree, axis: int = 0):
    """Inside a program: shards each array's `axis`, the rows of a batch; does nothing without a mesh."""
    return jax.tree.map(lambda x: _constrain(x, P(*[None] * axis, ROWS)), tree)


def shard_cache(x: jax.Array) -> jax.Array:
    """Inside a program: shards keys or values, of one layer or stacked, by rows and heads; nothing without a mesh.

    On a TPU it also fixes the layout in memory. Left alone, the compiler chooses the layout in which new columns are
    written fastest, and copies the whole layer into another one at every step to read it.
    """
    wanted = P(None, *CACHE) if x.ndim > len(CACHE) else P((*ROWS, TENSOR))
    mesh = jax.sharding.get_abstract_mesh()
    if platform() != "tpu" or mesh.empty:
        return _constrain(x, wanted)
    cut = effective_spec(mesh.shape, wanted, x.shape)
    in_order = lambda part: layout.with_layout_constraint(part, layout.Layout(tuple(range(part.ndim))))
    return jax.shard_map(in_order, in_specs=cut, out_specs=cut)(jax.lax.with_sharding_constraint(x, cut))


def platform() -> str:
    """What the program is compiled for, cpu, gpu or tpu: the current mesh's devices, if there is a mesh."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is None or not hasattr(device, "platform"):  # jax 0.7 knows the kind alone.
        return "tpu" if device and device.device_kind.startswith("TPU") else jax.default_backend()
    return device.platform


def _constrain(x: jax.Array, wanted: P) -> jax.Array:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, effective_spec(mesh.shape, wanted, x.shape))


def _misfits(sizes: Mapping[str, int], model: ModelConfig, rows: Mapping[str, int]) -> list[str]:
    parts = math.prod(sizes[name] for name in ROWS)
    cut = {"width": FSDP, "heads": TENSOR, "mlp": TENSOR, "dense_mlp": TENSOR, "experts": EXPERT}
    problems = [
        f"mesh.{axis}={sizes[axis]} does not divide model.{name}={getattr(model, name)}"
        for name, axis in cut.items()
        if (getattr(model, name) or 0) % sizes[axis]
    ]
    if sizes[EXPERT] > 1 and not model.experts:
        problems.append(f"mesh.{EXPERT}={sizes[EXPERT]} cuts experts, and the model has none (model.experts=0)")
    problems += [
        f"{name} = {count} cannot be cut over {' x '.join(f'mesh.{axis}' for axis in ROWS)} = {parts} devices"
        for name, count in rows.items()
        if count % parts
    ]
    return problems


def _near(sizes: Mapping[str, int], devices: int) -> Iterator[dict[str, int]]:
    """All meshes of this many devices, the most similar to the given one first."""
    divisors = [size for size in range(1, devices + 1) if devices % size == 0]
    meshes = [
        dict(zip(AXES, (devices // math.prod(rest), *rest), strict=True))
        for rest in itertools.product(divisors, repeat=len(AXES) - 1)
        if devices % math.prod(rest) == 0
    ]
    given = [name for name in AXES if sizes[name] != -1]
    return iter(sorted(meshes, key=lambda mesh: sum(abs(math.log(mesh[name] / sizes[name])) for name in given)))


def _written(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"mesh.{name}={size}" for name, size in sizes.items())
