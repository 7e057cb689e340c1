"""Training state, and one update of it from a batch."""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import optax

from negot_jax.models import sharding
from negot_jax.models.transformer import Weights
from negot_jax.rl import losses


class Widths(NamedTuple):
    """What a batch's rows need. lengths_B: int32. static: a few widths, ascending; the last one holds every row."""

    lengths_B: jax.Array
    static: tuple[int, ...]


class Skipped(NamedTuple):
    """Non-finite updates that were skipped: int32 counts, in total and since the last finite one."""

    total: jax.Array
    in_a_row: jax.Array


@struct.dataclass
class TrainState:
    """What an update changes. weights: the trained ones, see `Program.trained`. iteration: int32. key: PRNG key of the
    run, folded with the iteration.
    """

    weights: Weights
    opt_state: optax.OptState
    iteration: jax.Array
    skipped: Skipped
    key: jax.Array


def init_state(key: jax.Array, weights: Weights, optimizer: optax.GradientTransformation) -> TrainState:
    # One array each: the state is donated, and a buffer can be donated only once.
    iteration, total, in_a_row = (jnp.zeros((), jnp.int32) for _ in range(3))
    return TrainState(weights, optimizer.init(weights), iteration, Skipped(total, in_a_row), key)


def cut(batch: object, parts: int) -> object:
    """Splits rows [B, ...] into [parts, B / parts, ...], each part sharded over all devices."""
    return sharding.shard_rows(jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch), axis=1)


def apply_gradients(
    optimizer: optax.GradientTransformation,
    loss: Callable[..., tuple[losses.Pair, losses.Metrics]],
    carry: tuple[Weights, optax.OptState, Skipped],
    batch: object,
    micro_batches: int,
    widths: Widths | None = None,
) -> tuple[tuple[Weights, optax.OptState, Skipped], losses.Metrics]:
    """One update by the gradient of sum / weight over a batch, accumulated over micro-batches.

    The sums are differentiated and divided by the weight of the whole batch at the end, so the split changes nothing
    but rounding. A non-finite update is skipped and counted.

    loss: (weights, batch) to ((sum, weight), metrics); weight must not depend on the weights. widths: if given, rows
    are sorted by length, and each micro-batch's loss is called with the first width that holds its rows as a third
    argument; the program is compiled for each width.
    """
    weights, opt_state, skipped = carry
    static, lengths = (None,), jnp.zeros(micro_batches, jnp.int32)
    if widths is not None:
        order, static = jnp.argsort(widths.lengths_B), widths.static
        batch = jax.tree.map(lambda x: x[order], batch)
        lengths = widths.lengths_B[order].reshape(micro_batches, -1).max(axis=1)
    parts = cut(batch, micro_batches)

    def summed(weights, part, *width):
        (total, weight), metrics = loss(weights, part, *width)
        return total, metrics | {"loss": (total, weight)}

    def of_width(width):
        given = () if width is None else (width,)
        return lambda part: jax.grad(lambda weights: summed(weights, part, *given), has_aux=True)(weights)

    def add(accumulated, scanned):
        part, length = scanned
        which = jnp.searchsorted(jnp.array(static[:-1], jnp.int32), length)
        gradient, metrics = jax.lax.switch(which, [of_width(width) for width in static], part)
        return sharding.constrain(jax.tree.map(jnp.add, accumulated, (gradient, metrics))), None

    shapes = jax.eval_shape(of_width(static[-1]), jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (gradient, metrics), _ = jax.lax.scan(add, sharding.constrain(zeros), (parts, lengths))
    gradient = jax.tree.map(lambda g: g / jnp.maximum(metrics["loss"][1], 1.0), gradient)
    norm = optax.global_norm(gradient)
    updates, new_opt_state = optimizer.update(gradient, opt_state, weights)
    new_weights = optax.apply_updates(weights, updates)
    finite = jnp.isfinite(norm) & jnp.isfinite(optax.global_norm(new_weights))
    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
    metrics["grad_norm"] = (norm, jnp.float32(1))
    skipped = Skipped(skipped.total + ~finite, jnp.where(finite, 0, skipped.in_a_row + 1))
    return (keep(new_weights, weights), keep(new_opt_state, opt_state), skipped), metrics
