"""One layer of the transformer, attention and an MLP or experts, as Flax NNX modules."""

from collections.abc import Sequence
import functools
import math

from flax import nnx
import jax
import jax.numpy as jnp

from negot_jax.models import layers, moe
from negot_jax.models.layers import linear
from negot_jax.models.presets import ModelConfig

# Of queries: where each stretch ends, and how many columns it attends to, None for all.
Stretches = Sequence[tuple[int, int | None]]
_NEVER = -1e30  # Finite, so that a row that sees nothing stays finite.


class Norm(nnx.RMSNorm):
    """RMSNorm over the last axis, in float32. Some families store its scale minus 1."""

    def __init__(self, size: int, config: ModelConfig, rngs: nnx.Rngs):
        self.offset = config.norm_offset
        start = nnx.initializers.constant(1.0 - self.offset)
        super().__init__(size, epsilon=config.norm_eps, scale_init=start, rngs=rngs)

    def __call__(self, x):
        y = x.astype(jnp.float32)
        factor = jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.epsilon)
        return (y * (factor * (self.scale[...].astype(jnp.float32) + self.offset))).astype(x.dtype)


class Attention(nnx.Module):
    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        N, K, H, D = config.heads, config.kv_heads, config.head_dim, config.width
        scaled = functools.partial(nnx.initializers.variance_scaling, mode="fan_in", distribution="normal")
        normal = scaled(1.0, in_axis=0, out_axis=(1, 2))
        self.query = nnx.Param(normal(rngs.params(), (D, N, H)))
        self.key = nnx.Param(normal(rngs.params(), (D, K, H)))
        self.value = nnx.Param(normal(rngs.params(), (D, K, H)))
        out = scaled(1.0 / (2 * config.layers), in_axis=(0, 1), out_axis=2)
        self.out = nnx.Param(out(rngs.params(), (N, H, D)))
        self.normed, self.biased, self.products = config.qk_norm, config.qkv_bias, config.products
        if self.normed:
            self.query_norm, self.key_norm = Norm(H, config, rngs), Norm(H, config, rngs)
        if self.biased:
            zeros = lambda heads: nnx.Param(jnp.zeros((heads, H)))
            self.query_bias, self.key_bias, self.value_bias = zeros(N), zeros(K), zeros(K)
        self.scale = (H if config.query_scalar is None else config.query_scalar) ** -0.5

    def queries(self, x_BxTxD, angles, adapters):
        """Normalized and rotated."""
        query = linear(x_BxTxD, self.query, self.products, adapters.get("query"))
        if self.biased:
            query += self.query_bias[...].astype(query.dtype)
        return layers.rotate(self.query_norm(query) if self.normed else query, angles)

    def keys_values(self, x_BxTxD, angles, adapters):
        """The keys are normalized and rotated."""
        key = linear(x_BxTxD, self.key, self.products, adapters.get("key"))
        value = linear(x_BxTxD, self.value, self.products, adapters.get("value"))
        if self.biased:
            key += self.key_bias[...].astype(key.dtype)
            value += self.value_bias[...].astype(value.dtype)
        return layers.rotate(self.key_norm(key) if self.normed else key, angles), value

    def attend(self, query_BxTxNxH, keys, values, mask_BxTxS, stretches: Stretches, adapters):
        """keys: [B, K, H, S] or [B * K, H, S]; values: likewise, with S before H."""
        B, T, N, H = query_BxTxNxH.shape
        K, heads = math.prod(keys.shape[:-2]) // B, keys.shape[:-2]
        query_BxKxTxGxH = jnp.moveaxis(query_BxTxNxH.reshape(B, T, K, N // K, H), 1, 2)

        def stretch(start, end, span):
            query = query_BxKxTxGxH[:, :, start:end].reshape(*heads, -1, H)
            scores = jnp.matmul(query, keys[..., :span], preferred_element_type=jnp.float32) * self.scale
            scores = scores.reshape(B, K, -1, N // K, scores.shape[-1])
            bias = jnp.where(mask_BxTxS[:, None, start:end, None, :span], 0.0, _NEVER)
            weights = jax.nn.softmax(scores + bias).astype(query.dtype)  # A CPU fuses a sum, not a selection.
            mixed = jnp.matmul(weights.reshape(*heads, -1, scores.shape[-1]), values[..., :span, :])
            return jnp.moveaxis(mixed.reshape(B, K, -1, N // K, H), 2, 1)

        starts = (0, *(end for end, _ in stretches[:-1]))
        parts = [stretch(start, *ends) for start, ends in zip(starts, stretches, strict=True)]
        mixed_BxTxNxH = jnp.concatenate(parts, axis=1).reshape(B, T, N, H)
        return linear(mixed_BxTxNxH, self.out, self.products, adapters.get("out"))


class Mlp(nnx.Module):
    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        normal = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
        down = nnx.initializers.variance_scaling(1.0 / (2 * config.layers), "fan_in", "normal")
        hidden = config.dense_mlp or config.mlp
        self.gate = nnx.Param(normal(rngs.params(), (config.width, hidden)))
        self.up = nnx.Param(normal(rngs.params(), (config.width, hidden)))
        self.down = nnx.Param(down(rngs.params(), (hidden, config.width)))
        self.activation = {"silu": jax.nn.silu, "gelu": jax.nn.gelu}[config.activation]
        self.products = config.products

    def __call__(self, x, adapters):
        gate = self.activation(linear(x, self.gate, self.products, adapters.get("gate")))
        up = linear(x, self.up, self.products, adapters.get("up"))
        return linear(gate * up, self.down, self.products, adapters.get("down"))


class Experts(nnx.Module):
    """As many MLPs as there are experts, and the router that picks some for each token; see `moe`."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        D, F, E = config.width, config.mlp, config.experts
        normal = nnx.initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=0)
        down = nnx.initializers.variance_scaling(1.0 / (2 * config.layers), "fan_in", "normal", batch_axis=0)
        self.router = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (D, E)))
        self.gate = nnx.Param(normal(rngs.params(), (E, D, F)))
        self.up = nnx.Param(normal(rngs.params(), (E, D, F)))
        self.down = nnx.Param(down(rngs.params(), (E, F, D)))
        self.active, self.normalized, self.products = config.active_experts, config.normalized_experts, config.products

    def __call__(self, x, adapters, given_BxTxk):
        """What the experts make of x, and which the router picks, [B, T, k]; given: those to take instead, or None."""
        x_NxD = x.reshape(-1, x.shape[-1])
        given_Nxk = None if given_BxTxk is None else given_BxTxk.reshape(-1, self.active)
        matrices = {"gate": self.gate, "up": self.up, "down": self.down}
        experts = {name: matrix[...].astype(self.products) for name, matrix in matrices.items()}
        mixed, picked = moe.mix(x_NxD, self.router[...], self.active, experts, adapters, self.normalized, given_Nxk)
        return mixed.reshape(x.shape), picked.reshape(*x.shape[:2], -1)


class Block(nnx.Module):
    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, dense: bool):
        self.attention_norm, self.mlp_norm = Norm(config.width, config, rngs), Norm(config.width, config, rngs)
        self.attention = Attention(config, rngs)
        self.mlp = (Mlp if dense else Experts)(config, rngs)
        self.sandwich, self.dense = config.sandwich_norm, dense
        if self.sandwich:
            self.attention_out_norm = Norm(config.width, config, rngs)
            self.mlp_out_norm = Norm(config.width, config, rngs)

    def add_attention(self, x, mixed):
        return x + (self.attention_out_norm(mixed) if self.sandwich else mixed)

    def add_mlp(self, x, adapters, given):
        """The sum, and the experts picked: see `Experts`; None of a dense MLP."""
        normed, picked = self.mlp_norm(x), None
        if self.dense:
            mixed = self.mlp(normed, adapters)
        else:
            mixed, picked = self.mlp(normed, adapters, given)
        return x + (self.mlp_out_norm(mixed) if self.sandwich else mixed), picked
