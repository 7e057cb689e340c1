"""Rotary position embedding (Su et al. 2021), halves rotated as in Llama, and its stretched forms."""

import math

import jax
import jax.numpy as jnp

from negot_jax.models.presets import RopeConfig


def angles(positions_BxT: jax.Array, columns: int, head_dim: int, rope: RopeConfig) -> tuple[jax.Array, jax.Array]:
    """Sine and cosine of the rotary angles, float32 [B, T, 1, H/2].

    Looked up in tables of all positions below `columns`: computed in place, XLA would repeat them for each head.
    """
    angles = jnp.arange(columns, dtype=jnp.float32)[:, None] * _frequencies(head_dim, rope)
    table = lambda x: (x * rope.attention_factor)[jnp.maximum(positions_BxT, 0)][..., None, :]
    return table(jnp.sin(angles)), table(jnp.cos(angles))


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    sin, cos = angles
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def _frequencies(head_dim: int, rope: RopeConfig) -> jax.Array:
    """Radians per token, [H/2]. Where `kept` is 1 a frequency stays, where it is 0 it is divided by the factor."""
    own = rope.theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    if rope.kind == "default":
        return own
    if rope.kind == "linear":
        return own / rope.factor
    if rope.kind == "llama3":
        turns = rope.original_length * own / (2 * math.pi)
        kept = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    else:
        # The index of the frequency that turns so many times in the original length.
        index = lambda turns: (
            head_dim * math.log(rope.original_length / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))
        )
        low, high = max(math.floor(index(rope.beta_fast)), 0), min(math.ceil(index(rope.beta_slow)), head_dim - 1)
        span = high - low or 0.001
        kept = 1 - (jnp.arange(head_dim // 2) - low) / span
    kept = jnp.clip(kept, 0, 1)
    return own * kept + own / rope.factor * (1 - kept)
