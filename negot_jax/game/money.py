"""Exact arithmetic on integer cents: shares are basis points, so that no price ever passes through a float.

Floats differ by a bit between a fused and an unfused program, and a bit is a cent at the wrong moment; and float32
cannot hold every price below `MAX_PRICE`.
"""

import jax
from jax import Array
import jax.numpy as jnp

BP = 10_000  # Basis points in one.


def basis_points(share: jax.typing.ArrayLike) -> Array:
    """A share (1.0 = all) to the nearest basis point, int32."""
    return jnp.round(jnp.asarray(share, jnp.float32) * BP).astype(jnp.int32)


def part(amount: Array, bp: Array) -> Array:
    """floor(amount * bp / BP) without overflow, int32 cents, for |bp| <= 20 * BP and results that fit."""
    return amount // BP * bp + amount % BP * bp // BP


def part_up(amount: Array, bp: Array) -> Array:
    """ceil(amount * bp / BP), int32 cents; bounds as in `part`."""
    return -part(-amount, bp)


def round_up(amount: Array, tick: int) -> Array:
    """The smallest multiple of `tick` that is not below `amount`, int32 cents."""
    return -(-amount // tick) * tick


def uniform_bp(u: Array, low: Array | int, high: Array | int) -> Array:
    """A draw from the whole basis points low .. high, both included, by a uniform `u` in [0, 1), int32."""
    return low + (u * (high - low + 1)).astype(jnp.int32)
