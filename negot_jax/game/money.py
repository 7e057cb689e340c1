"""Exact arithmetic on integer cents; shares are basis points.

No price passes through a float: XLA may fuse and round it differently, by enough to change a cent, and float32 cannot
represent every price up to `MAX_PRICE`.
"""

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

BP = 10_000  # Basis points in one.


def dollars(cents: int) -> str:
    """Cents as the game writes them: $45, $45.50."""
    whole, rest = divmod(int(cents), 100)
    return f"${whole}.{rest:02d}" if rest else f"${whole}"


def highest_floor(prices: ArrayLike, costs: ArrayLike, margin: float) -> int:
    """The highest list price, or a floor of `margin` above the highest cost if that is higher, int cents."""
    return int(max(np.max(prices), np.ceil(np.max(costs) * (1 + margin)) + 1))


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
    """The smallest multiple of `tick` at or above `amount`, int32 cents."""
    return -(-amount // tick) * tick


def uniform_bp(u: Array, low: Array | int, high: Array | int) -> Array:
    """Maps a uniform `u` in [0, 1) to a whole number of basis points in low .. high, both included, int32."""
    return low + (u * (high - low + 1)).astype(jnp.int32)
