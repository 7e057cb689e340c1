"""What the transformer's layers compute with: matrix products, rotary embedding, embedding look-up."""

import functools
import math

from flax import nnx
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from negot_jax.models.presets import RopeConfig
from negot_jax.models.sharding import FSDP, ROWS, TENSOR

PRODUCT = "product"  # Their name for `jax.checkpoint`: remat="dots" saves them.


def linear(x: jax.Array, weight: nnx.Param, dtype: str, adapter: dict[str, jax.Array] | None = None) -> jax.Array:
    """x [B, T, *in] times weight [*in, *out]: [B, T, *out]; plus what a low-rank adapter adds, if there is one.

    dtype: the type to multiply in; the result has that of x. B and T are merged: as two axes, XLA's backward pass takes
    2.5 times as long on a CPU. The weight keeps its shape: a TPU would have to copy it to reshape it.
    """
    rows = x.reshape(-1, *x.shape[2:])
    product = checkpoint_name(_product(rows, weight[...].astype(dtype)), PRODUCT)
    if adapter is not None:
        low = _product(rows, adapter["a"].astype(dtype)) * adapter["scale"]
        product += _product(low.astype(x.dtype), adapter["b"].astype(dtype))
    return product.reshape(*x.shape[:2], *product.shape[1:])


@jax.custom_vjp
def _product(x: jax.Array, weight: jax.Array) -> jax.Array:
    """x [R, *in] times weight [*in, *out] in the type of the weight: [R, *out] in that of x. Sums are float32.

    A TPU does so by itself. A CPU has to be told, for the gradient to x too: left to itself, it computes a bfloat16
    product with a bfloat16 result in float32, at a third of the speed.
    """
    return _summed(x.astype(weight.dtype), weight, x.ndim - 1).astype(x.dtype)


_summed = functools.partial(jnp.tensordot, preferred_element_type=jnp.float32)


def _product_gradient(saved, gradient):
    x, weight = saved
    given = gradient.astype(weight.dtype)
    back = _summed(given, weight, (tuple(range(1, given.ndim)), tuple(range(x.ndim - 1, weight.ndim))))
    return back.astype(x.dtype), jnp.tensordot(x.astype(weight.dtype), given, ((0,), (0,)))


_product.defvjp(lambda x, weight: (_product(x, weight), (x, weight)), _product_gradient)


def angles(positions_BxT: jax.Array, columns: int, head_dim: int, rope: RopeConfig) -> tuple[jax.Array, jax.Array]:
    """Sine and cosine of the angles of rotary embedding (Su et al. 2021), float32 [B, T, 1, H/2].

    Looked up in tables of all positions below `columns`: if they were computed in place, XLA would repeat them for each
    head.
    """
    angles = jnp.arange(columns, dtype=jnp.float32)[:, None] * _frequencies(head_dim, rope)
    table = lambda x: (x * rope.attention_factor)[jnp.maximum(positions_BxT, 0)][..., None, :]
    return table(jnp.sin(angles)), table(jnp.cos(angles))


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """x [..., H] turned by the angles, in pairs of one entry from each half, as in Llama."""
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
    elif rope.kind == "yarn":
        # The index of the frequency that turns so many times in the original length.
        index = lambda turns: (
            head_dim * math.log(rope.original_length / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))
        )
        low, high = index(rope.beta_fast), index(rope.beta_slow)
        if rope.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        span = high - low or 0.001
        kept = 1 - (jnp.arange(head_dim // 2) - low) / span
    kept = jnp.clip(kept, 0, 1)
    return own * kept + own / rope.factor * (1 - kept)


def look_up(matrix_VxD: jax.Array, tokens: jax.Array) -> jax.Array:
    """Rows of the matrix by index: int32 [...] to [..., D].

    On a mesh each device looks up the tokens of its `fsdp` group in its own shard and sends the rows to their owners.
    Left to itself, the compiler would all-gather the matrix at every decoding step.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return matrix_VxD[tokens]
    parts = math.prod(mesh.shape[name] for name in ROWS)
    padded_N = jnp.pad(tokens.reshape(-1), (0, -tokens.size % parts))  # Rows that the devices do not divide.
    is_sharded = matrix_VxD.shape[0] % mesh.shape[TENSOR] == 0

    def local(part_VxD, tokens_N):
        tokens_N = jax.lax.all_gather(tokens_N, FSDP, tiled=True)
        if is_sharded:
            tokens_N = tokens_N - jax.lax.axis_index(TENSOR) * part_VxD.shape[0]
            here_N = (tokens_N >= 0) & (tokens_N < part_VxD.shape[0])
            x_NxD = jax.lax.psum(jnp.where(here_N[:, None], part_VxD.at[tokens_N].get(mode="clip"), 0), TENSOR)
        else:
            x_NxD = part_VxD[tokens_N]
        return jax.lax.all_to_all(x_NxD, FSDP, split_axis=0, concat_axis=1, tiled=True)

    in_specs = (P(TENSOR if is_sharded else None, FSDP), P(ROWS))
    found_NxD = jax.shard_map(local, in_specs=in_specs, out_specs=P(ROWS))(matrix_VxD, padded_N)
    return found_NxD[: tokens.size].reshape(*tokens.shape, -1)
