"""A mixture of experts: each token passes through a few of many gated MLPs (Qwen3-MoE; Yang et al. 2025).

Tokens are sorted by expert and every expert multiplies its own stretch of them by a grouped matrix product, so the cost
follows the active experts, not all of them. Nothing is dropped: an expert takes as many tokens as are sent to it.

Shape suffixes: N tokens, K active experts of a token, R = N * K pairs of a token and an expert, E experts, D width,
F hidden width of an expert.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from negot_jax.models import sharding
from negot_jax.models.sharding import EXPERT, FSDP, ROWS, TENSOR

_TOKENS = 16_384  # Read at a time on a mesh: with 8 active experts and a width of 2048, 0.5 GB in bfloat16.


class Routes(NamedTuple):
    """Where tokens go: experts int32[N, K], and their float32 weights [N, K]."""

    experts_NxK: jax.Array
    weights_NxK: jax.Array


def route(
    x_NxD: jax.Array, router_DxE: jax.Array, active: int, normalized: bool = True, given_NxK: jax.Array | None = None
) -> tuple[Routes, jax.Array]:
    """The most likely experts of each token, in float32: rounding must not choose the expert.

    normalized: whether a token's weights are scaled to sum to 1, or are the experts' probabilities. given_NxK: experts
    to take in place of the most likely ones; their weights are still the router's. Returns the routes, and the most
    likely experts, int32[N, K].
    """
    scores = jnp.dot(x_NxD.astype(jnp.float32), router_DxE.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    probabilities = jax.nn.softmax(scores)
    weights, picked_NxK = jax.lax.top_k(probabilities, active)
    experts = picked_NxK
    if given_NxK is not None:
        experts = given_NxK.astype(jnp.int32)
        weights = jnp.take_along_axis(probabilities, experts, axis=-1)
    return Routes(experts, weights / weights.sum(axis=-1, keepdims=True) if normalized else weights), picked_NxK


def mix(
    x_NxD: jax.Array,
    router_DxE: jax.Array,
    active: int,
    experts: dict[str, jax.Array],
    adapters: dict[str, dict[str, jax.Array]],
    normalized: bool = True,
    given_NxK: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Sends each token through its experts, [N, D], and says which are likeliest, [N, K]; arguments as in `route` and
    `apply_experts`.

    On a mesh the experts stay where they are, and the tokens come to them: each device reads the tokens of all devices
    along `expert`, adds up what its own experts make of them, and gets back the sum of its own tokens. Of a 30B-A3B
    model a layer's experts are 1.2 GB; a decoding step's tokens of 512 episodes are 2 MB. Weights that `fsdp` shards
    are gathered. Large batches are read in pieces, since a token is held once for each of its active experts.
    """
    adapters = {name: adapters[name] for name in experts if name in adapters}  # The others belong to attention.
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        routes, picked_NxK = route(x_NxD, router_DxE, active, normalized, given_NxK)
        return apply_experts(x_NxD, routes, experts, adapters), picked_NxK
    parts = math.prod(mesh.shape[name] for name in ROWS)
    N = x_NxD.shape[0]
    pieces = math.ceil(math.ceil(N / parts) * mesh.shape[EXPERT] / _TOKENS)
    tokens = (x_NxD,) if given_NxK is None else (x_NxD, given_NxK)
    padded = tuple(jnp.pad(x, ((0, -N % (parts * pieces)), (0, 0))) for x in tokens)  # Into equal pieces.
    of_layer = lambda name: P(*sharding.drop_axis(FSDP, sharding.spec(name, 4))[1:])
    specs = {name: of_layer(f"blocks.mlp.{name}") for name in experts}
    adapter_specs = {
        name: {part: of_layer(f"lora.{name}.{part}") for part in ("a", "b")} | {"scale": P()} for name in adapters
    }
    in_specs = ((P(ROWS),) * len(tokens), P(), specs, adapter_specs)

    def local(tokens, router_DxE, experts, adapters):
        def read(tokens):
            x_nxD, *given = tokens
            routes, picked_nxK = route(x_nxD, router_DxE, active, normalized, *given)
            theirs, routes = jax.tree.map(lambda x: jax.lax.all_gather(x, EXPERT, tiled=True), (x_nxD, routes))
            first = jax.lax.axis_index(EXPERT) * experts["gate"].shape[0]
            mixed = apply_experts(theirs, routes, experts, adapters, first)
            return jax.lax.psum_scatter(jax.lax.psum(mixed, TENSOR), EXPERT, tiled=True), picked_nxK

        if pieces == 1:
            return read(tokens)
        cut = jax.tree.map(lambda x: x.reshape(pieces, -1, x.shape[1]), tokens)
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[2]), jax.lax.map(jax.checkpoint(read), cut))

    run = jax.shard_map(local, in_specs=in_specs, out_specs=(P(ROWS), P(ROWS)))
    return jax.tree.map(lambda x: x[:N], run(padded, router_DxE, experts, adapters))


@jax.custom_vjp
def permute(x_RxD: jax.Array, order_R: jax.Array, back_R: jax.Array) -> jax.Array:
    """The rows in another order, which `back_R` undoes. Its gradient gathers, where that of an index would scatter."""
    return x_RxD[order_R]


permute.defvjp(
    lambda x_RxD, order_R, back_R: (x_RxD[order_R], back_R), lambda back_R, given_RxD: (given_RxD[back_R], None, None)
)


def apply_experts(
    x_NxD: jax.Array,
    routes: Routes,
    experts: dict[str, jax.Array],
    adapters: dict[str, dict[str, jax.Array]],
    first: jax.Array | int = 0,
) -> jax.Array:
    """The weighted sum of what these experts make of the tokens sent to them, [N, D].

    With the experts cut over the devices of a mesh axis, each device calls this inside `jax.shard_map` with its own
    experts and the same tokens, and the results add up to the whole: `jax.lax.psum(..., axis)`.

    experts: gate [E, D, F], up [E, D, F], down [E, F, D] of the experts first, ..., first + E - 1; in their type
    products are computed. adapters: by the same names, low-rank {"a": [E, in, r], "b": [E, r, out], "scale": []}.
    """
    count = experts["gate"].shape[0]
    active = routes.experts_NxK.shape[1]
    expert_R = routes.experts_NxK.reshape(-1) - first
    expert_R = jnp.where((expert_R >= 0) & (expert_R < count), expert_R, count)  # Other devices' come last.
    order_R = jnp.argsort(expert_R, stable=True)
    sizes_E = jnp.sum(expert_R == jnp.arange(count)[:, None], axis=1, dtype=jnp.int32)  # bincount would scatter.

    def product(x_RxI, name):
        matrices = experts[name]
        grouped = lambda x, y: jax.lax.ragged_dot(x.astype(matrices.dtype), y.astype(matrices.dtype), sizes_E)
        y_RxO = grouped(x_RxI, matrices)
        if name in adapters:
            low = grouped(x_RxI, adapters[name]["a"]) * adapters[name]["scale"]
            y_RxO += grouped(low, adapters[name]["b"])
        return y_RxO.astype(x_RxI.dtype)

    back_R = jnp.argsort(order_R)
    # What a product makes of rows past the last group is not defined on every device, nor is what its gradient does.
    ours_Rx1 = (jnp.arange(order_R.size) < sizes_E.sum())[:, None]
    sorted_RxD = jnp.where(ours_Rx1, permute(jnp.repeat(x_NxD, active, axis=0), order_R, back_R), 0)
    out_RxD = product(jax.nn.silu(product(sorted_RxD, "gate")) * product(sorted_RxD, "up"), "down")
    out_RxD = jnp.where(ours_Rx1, out_RxD, 0)
    out_NxKxD = permute(out_RxD, back_R, order_R).reshape(*routes.experts_NxK.shape, -1)
    mixed = jnp.einsum("nkd,nk->nd", out_NxKxD, routes.weights_NxK, preferred_element_type=jnp.float32)
    return mixed.astype(x_NxD.dtype)
