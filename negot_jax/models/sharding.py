"""How arrays lie on a mesh of devices. So far one axis, `data`: rows of a batch are cut over it, all else is copied.

Everything runs on one device without a mesh; `jax.set_mesh(mesh())` spreads the same program over all of them.
"""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

DATA = "data"


def mesh() -> jax.sharding.Mesh:
    """All devices along the data axis."""
    return jax.make_mesh((jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def replicate(tree):
    """Puts a whole copy of each array on every device of the current mesh."""
    return jax.device_put(tree, NamedSharding(jax.sharding.get_mesh(), PartitionSpec()))


def keep_whole(tree):
    """Inside a program: asks for a whole copy of each array on every device; does nothing without a mesh."""
    return _constrain(tree, PartitionSpec())


def split_rows(tree, axis: int = 0):
    """Inside a program: cuts each array's `axis`, which counts rows of a batch; does nothing without a mesh."""
    return _constrain(tree, PartitionSpec(*[None] * axis, DATA))


def _constrain(tree, spec: PartitionSpec):
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, spec), tree)
