"""Matrix products of activations and weights, with low-rank adapters, in a configurable type."""

import functools

from flax import nnx
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

PRODUCT = "product"  # Their name for `jax.checkpoint`: remat="dots" saves them.


def linear(x: jax.Array, weight: nnx.Param, dtype: str, adapter: dict[str, jax.Array] | None = None) -> jax.Array:
    """x [B, T, *in] times weight [*in, *out]: [B, T, *out]; plus what a low-rank adapter adds, if there is one.

    dtype: the type to multiply in; the result has that of x.

    B and T are merged: as two axes, XLA's backward pass takes 2.5 times as long on a CPU. The weight keeps its shape: a
    TPU would have to copy it to reshape it.
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

    A TPU does so by itself. A CPU has to be told, for the gradient too: left to itself, it computes a bfloat16 product
    with a bfloat16 result in float32, at a third of the speed.
    """
    return _summed(x.astype(weight.dtype), weight, x.ndim - 1).astype(x.dtype)


_summed = functools.partial(jnp.tensordot, preferred_element_type=jnp.float32)


def _product_gradient(saved, gradient):
    x, weight = saved
    given = gradient.astype(weight.dtype)
    back = _summed(given, weight, (tuple(range(1, given.ndim)), tuple(range(x.ndim - 1, weight.ndim))))
    return back.astype(x.dtype), jnp.tensordot(x.astype(weight.dtype), given, ((0,), (0,)))


_product.defvjp(lambda x, weight: (_product(x, weight), (x, weight)), _product_gradient)
