"""A lower bound on the time of an iteration: arithmetic or memory traffic, whichever takes longer.

Per chip, with B the rows on it and bfloat16 weights:

  decode   per token of a message, for both players: the longer of
             (the chip's share of the weights + B x filled columns x bytes of keys and values) / bandwidth and
             B x FLOPs per token / peak
  prefill  (prompt tokens, once per group, + tokens heard) x FLOPs per token / peak
  update   tokens x FLOPs per token x passes / peak: one forward pass per rescoring; per epoch one forward, one more
           if layers are recomputed, one backward to the activations, and one to the weights if they are trained
           themselves

FLOPs are those of `negot_jax.roofline.flops`. Messages are taken to be as long as they may be. The network is left out:
the bytes sent (`negot_jax.roofline.hlo`) over a chip's bandwidth bound it from below.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from negot_jax.models.presets import ModelConfig
from negot_jax.models.sharding import EXPERT, TENSOR
from negot_jax.roofline import flops
from negot_jax.roofline.chips import Chip
from negot_jax.roofline.flops import Workload

PHASES = ("decode", "prefill", "update")


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds per iteration, at best. memory_bound: the part of `decode` that memory bandwidth decides."""

    decode: float
    prefill: float
    update: float
    memory_bound: float


def estimate(
    work: Workload, players: Sequence[tuple[ModelConfig, Any]], mesh: Mapping[str, int], chip: Chip
) -> Estimate:
    """The lower bound on a mesh of such chips. players: the language models that play, the one being trained first,
    each with the columns of its context, an `rl.layout.Layout`.
    """
    chips = math.prod(mesh.values())
    decode = prefill = memory_bound = 0.0
    for model, context in players:
        for turn in range(context.turns):
            filled = context.start(turn) + context.message / 2
            arithmetic = work.episodes * flops.per_token(model, filled, 1.0) / chips / chip.flops
            traffic = weight_bytes(model, mesh) + work.episodes * filled * cache_bytes(model) / chips
            memory = traffic / chip.bandwidth
            decode += context.message * max(arithmetic, memory)
            memory_bound += context.message * memory * (memory >= arithmetic)
        heard = (context.turns - 1) * context.heard * work.episodes
        total = work.scenarios * context.prompt * flops.per_token(model, context.prompt / 2, 0.0)
        total += heard * flops.per_token(model, context.columns / 2, 0.0)
        prefill += total / chips / chip.flops
    model, context = work.model, players[0][1]
    scored = context.turns * context.message / context.columns
    passes = work.rescored + work.epochs * (2 + (model.remat == "full") + (not model.lora.rank))
    total = work.episodes * context.columns * flops.per_token(model, context.columns / 2, scored) * passes
    return Estimate(decode, prefill, total / chips / chip.flops, memory_bound)


def weight_bytes(model: ModelConfig, mesh: Mapping[str, int]) -> float:
    """Bytes of weights that a chip reads to decode one token: its experts, and its `tensor` shard of everything.

    All of its experts are read, as a batch of hundreds of rows reaches each of them. FSDP shards are read whole: they
    are gathered before a player begins.
    """
    attention = model.width * model.head_dim * (2 * model.heads + 2 * model.kv_heads)
    mlps = 3 * model.width * model.mlp * model.mixtures * model.experts / mesh[EXPERT]
    mlps += 3 * model.width * (model.dense_mlp or model.mlp) * (model.layers - model.mixtures)
    matrices = model.layers * attention + mlps + model.width * model.vocab_size
    return 2 * matrices / mesh[TENSOR]


def cache_bytes(model: ModelConfig) -> float:
    """Bytes of keys and values of one column, over all layers."""
    return 2 * 2 * model.layers * model.kv_heads * model.head_dim


def text(found: Estimate) -> str:
    """The estimate and its formula, for a terminal."""
    lines = ["at best, by formula (a chip's arithmetic or its memory, whichever takes longer; no network)"]
    lines += [f"  {phase:8} {getattr(found, phase):8.1f} s" for phase in PHASES]
    lines[1] += f"   {100 * found.memory_bound / found.decode:.0f} % of it bound by memory"
    return "\n".join([*lines, "", *__doc__.split("\n\n")[1:3]])
