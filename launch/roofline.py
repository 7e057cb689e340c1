"""How fast an iteration could be at best, by formula: what its arithmetic takes, or its memory, whichever is longer.

Of a chip, with B the rows that it holds and the weights in bfloat16:

  decode   for every token of a message, and both players: the longer of
             (the chip's part of the weights + B x columns filled so far x bytes of keys and values) / bandwidth and
             B x FLOPs a token / peak
  prefill  tokens of the prompts, each once for its group, and of what is heard x FLOPs a token / peak
  update   tokens x FLOPs a token x passes / peak: one forward pass for each score that is held fixed; in every epoch
           one forward, one more where layers are computed again, one backward to activations, and one to the weights
           where they are trained themselves

FLOPs as in `negot_jax.training.flops`. Messages are taken to be as long as they may be. Time on the network is not in
it: bytes sent over bandwidth say how much that is at least.
"""

import dataclasses
import math

from negot_jax.models.presets import ModelConfig
from negot_jax.models.sharding import EXPERT, TENSOR
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Program
from negot_jax.training import flops

# Of a chip, bytes/s of its memory, as its maker publishes them, by JAX's name for it.
BANDWIDTH = {"TPU v5": 2.765e12, "TPU v5 lite": 0.819e12, "TPU v6 lite": 1.64e12}
PHASES = ("decode", "prefill", "update")


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds an iteration, at best; and of decoding the part that memory's bandwidth decides."""

    decode: float
    prefill: float
    update: float
    bound_by_memory: float


def estimate(program: Program, tables: Tables, mesh: dict[str, int], device: str) -> Estimate:
    """The estimate for chips of a kind on a mesh."""
    peak, bandwidth = flops.PEAK[device], BANDWIDTH[device]
    chips = math.prod(mesh.values())
    config = program.config
    episodes = config.scenarios * config.group
    decode = prefill = by_memory = 0.0
    own, other = program.role, 1 - program.role
    players = [(program.model, tables.side(own).layout)]
    players += [] if program.scripted else [(program.opponent.model, tables.side(other).layout)]
    for model, layout in players:
        for turn in range(layout.turns):
            filled = layout.start(turn) + layout.message / 2
            arithmetic = episodes * flops.per_token(model, filled, 1.0) / chips / peak
            memory = (weight_bytes(model, mesh) + episodes * filled * cache_bytes(model) / chips) / bandwidth
            decode += layout.message * max(arithmetic, memory)
            by_memory += layout.message * memory * (memory >= arithmetic)
        heard = (layout.turns - 1) * layout.heard * episodes
        work = config.scenarios * layout.prompt * flops.per_token(model, layout.prompt / 2, 0.0)
        work += heard * flops.per_token(model, layout.columns / 2, 0.0)
        prefill += work / chips / peak
    layout = tables.side(own).layout
    scored = layout.turns * layout.message / layout.columns
    algorithm, model = program.algorithm, program.model
    passes = algorithm.rescores + (algorithm.kl != "none")
    passes += config.epochs * (2 + (model.remat == "full") + (not model.lora.rank))
    work = episodes * layout.columns * flops.per_token(model, layout.columns / 2, scored) * passes
    return Estimate(decode, prefill, work / chips / peak, by_memory)


def weight_bytes(model: ModelConfig, mesh: dict[str, int]) -> float:
    """Bytes of weights that a chip reads to decode a token: its experts, and of everything what `tensor` leaves it.

    All of its experts are read, since a batch of hundreds of rows passes through each of them; and what `fsdp` cuts,
    since that is put together before a player begins.
    """
    attention = model.width * model.head_dim * (2 * model.heads + 2 * model.kv_heads)
    mlp = 3 * model.width * model.mlp
    if model.experts:
        mlp *= model.experts / mesh[EXPERT]
    matrices = model.layers * (attention + mlp) + model.width * model.vocab_size
    return 2 * matrices / mesh[TENSOR]


def cache_bytes(model: ModelConfig) -> float:
    """Bytes of a column's keys and values in all layers."""
    return 2 * 2 * model.layers * model.kv_heads * model.head_dim


def written(found: Estimate) -> str:
    """The estimate and its formula, as they are printed."""
    lines = ["at best, by formula (a chip's arithmetic or its memory, whichever is longer; no network)"]
    lines += [f"  {phase:8} {getattr(found, phase):8.1f} s" for phase in PHASES]
    lines[1] += f"   {100 * found.bound_by_memory / found.decode:.0f} % of it bound by memory"
    return "\n".join([*lines, "", *__doc__.split("\n\n")[1:3]])
