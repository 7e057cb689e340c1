"""Time-dependent concession (Faratin, Sierra and Jennings 1998, section 4.1) in integer cents."""

import jax
from jax import Array
import jax.numpy as jnp

from negot_jax.game.money import basis_points, part_up


def progress(turn: Array, turns: int) -> Array:
    """Faratin's t / t_max, float32 in [0, 1]: 0 in the first turn, 1 in the last (also where that is the first)."""
    return jnp.float32(turn) / (turns - 1) if turns > 1 else jnp.ones_like(turn, jnp.float32)


def alpha(progress: Array, beta: jax.typing.ArrayLike, k: float = 0.0) -> Array:
    """The share conceded, K + (1 - K) (t / t_max)^(1 / beta), float32: late (Boulware) where beta < 1, early if > 1."""
    return k + (1 - k) * progress ** (1 / jnp.asarray(beta, jnp.float32))


def ask(price: Array, floor: Array, alpha: Array) -> Array:
    """floor + (1 - alpha) (price - floor), rounded up, int32 cents; alpha counts to the nearest basis point."""
    return floor + part_up(price - floor, basis_points(1 - alpha))
