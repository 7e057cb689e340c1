"""Model FLOPs of an iteration, and a lower bound on its time: arithmetic or memory traffic, whichever takes longer.

Per chip, with B the rows on it and bfloat16 weights:

  decode   per token of a message, for both players: the longer of
             (the chip's share of the weights + B x filled columns x bytes of keys and values) / bandwidth and
             B x FLOPs per token / peak
  prefill  (prompt tokens, once per group, + tokens heard) x FLOPs per token / peak
  update   tokens x FLOPs per token x passes / peak: one forward pass per rescoring; per epoch one forward, one more
           if layers are recomputed, one backward to the activations, and one to the weights if they are trained
           themselves

Messages are taken to be as long as they may be. The network is left out: the bytes sent (`negot_jax.roofline.hlo`) over
a chip's bandwidth bound it from below.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any, NamedTuple

from negot_jax.models.presets import ModelConfig
from negot_jax.models.sharding import EXPERT, TENSOR


class Chip(NamedTuple):
    """An accelerator, as its maker publishes it: https://cloud.google.com/tpu/docs, and NVIDIA's data sheets.

    flops: dense bfloat16 FLOP/s. bandwidth: bytes/s of its memory. memory: bytes, of a TPU those that its compiler
    grants a program, by its out-of-memory errors. network: bytes/s it can send on all its links together. None: not
    known.
    """

    flops: float
    bandwidth: float | None = None
    memory: float | None = None
    network: float | None = None


_V5P = Chip(459e12, 2.765e12, 95.74 * 2**30, 600e9)
CHIPS = {  # By JAX's `device_kind`.
    "TPU v4": Chip(275e12, 1.228e12),
    "TPU v5 lite": Chip(197e12, 0.819e12, 15.75 * 2**30, 200e9),
    "TPU v5": _V5P,
    "TPU v5p": _V5P,
    "TPU v6 lite": Chip(918e12, 1.64e12, 31.25 * 2**30, 400e9),
    "NVIDIA A100-SXM4-40GB": Chip(312e12, 1.555e12),
    "NVIDIA A100-SXM4-80GB": Chip(312e12, 2.039e12),
    "NVIDIA H100 80GB HBM3": Chip(989e12, 3.35e12),
    "NVIDIA H200": Chip(989e12, 4.8e12),
}
PHASES = ("decode", "prefill", "update")


@dataclasses.dataclass(frozen=True)
class Workload:
    """One training iteration. group: episodes per scenario. epochs: passes over the episodes. rescored: forward passes
    besides the rollout whose log-probs are constants of the loss: the trainer's own, and the reference's.
    """

    model: ModelConfig
    scenarios: int
    group: int
    epochs: int
    rescored: int

    @property
    def episodes(self) -> int:
        return self.scenarios * self.group


def per_token(model: ModelConfig, columns: float, scored: float) -> float:
    """FLOPs of a forward pass per token: two per parameter, and attention.

    columns: how many a token attends to, on average; local layers see no more than their window. scored: the share of
    tokens for which logits over the vocabulary are computed.
    """
    whole = model.is_local.count(False)
    seen = whole * columns + (model.layers - whole) * min(columns, model.window or columns)
    matrices = _matrices(model, model.active_experts) + model.mixtures * model.width * model.experts
    matrices += scored * model.width * model.vocab_size
    return 2 * matrices + 4 * seen * model.heads * model.head_dim


def per_iteration(work: Workload, tokens: float, sampled: float) -> float:
    """FLOPs of rollout and update over the learner's contexts, which hold `tokens`, of them `sampled` its own.

    A token passes forward once in the rollout, a prompt as often as it has episodes, though it is read once per group.
    What the opponent reads is left out.
    """
    return _forward(work, tokens, sampled) + per_update(work, tokens, sampled)


def per_update(work: Workload, tokens: float, sampled: float) -> float:
    """FLOPs of the update alone; arguments as in `per_iteration`.

    Recomputation in a backward pass does not count (model FLOPs; Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
    A token passes forward once per rescoring pass. Every epoch costs three forward passes, as a backward pass counts
    two; one less if the matrices themselves are frozen (LoRA).
    """
    return (work.rescored + (2 if work.model.lora.rank else 3) * work.epochs) * _forward(work, tokens, sampled)


def _forward(work: Workload, tokens: float, sampled: float) -> float:
    """FLOPs of one pass; attention counts as if every token saw half of the context."""
    return tokens * per_token(work.model, tokens / work.episodes / 2, sampled / tokens)


def _matrices(model: ModelConfig, experts: float) -> float:
    """Parameters of the layers' matrices, with so many experts in each layer that has some."""
    attention = model.width * model.head_dim * (2 * model.heads + 2 * model.kv_heads)
    mlps = model.mixtures * model.mlp * experts + (model.layers - model.mixtures) * (model.dense_mlp or model.mlp)
    return model.layers * attention + 3 * model.width * mlps


def estimate(
    work: Workload, players: Sequence[tuple[ModelConfig, Any]], mesh: Mapping[str, int], chip: Chip
) -> dict[str, float]:
    """Seconds of each phase on a mesh of such chips, at best; memory_bound: those of decoding that bandwidth decides.
    Decoding reads all filled columns in every layer, local ones too, as this program does.

    players: the language models that play, the one being trained first, each with its context's `rl.layout.Layout`.
    """
    chips = math.prod(mesh.values())
    decode = prefill = memory_bound = 0.0
    for model, context in players:
        for turn in range(context.turns):
            filled = context.start(turn) + context.message / 2
            arithmetic = work.episodes * per_token(model, filled, 1.0) / chips / chip.flops
            traffic = weight_bytes(model, mesh) + work.episodes * filled * column_bytes(model) / chips
            memory = traffic / chip.bandwidth
            decode += context.message * max(arithmetic, memory)
            memory_bound += context.message * memory * (memory >= arithmetic)
        heard = (context.columns - context.prompt - context.turns * context.message) * work.episodes
        total = work.scenarios * context.prompt * per_token(model, context.prompt / 2, 0.0)
        total += heard * per_token(model, context.columns / 2, 0.0)
        prefill += total / chips / chip.flops
    model, context = work.model, players[0][1]
    scored = context.turns * context.message / context.columns
    passes = work.rescored + work.epochs * (2 + (model.remat == "full") + (not model.lora.rank))
    total = work.episodes * context.columns * per_token(model, context.columns / 2, scored) * passes
    return dict(decode=decode, prefill=prefill, update=total / chips / chip.flops, memory_bound=memory_bound)


def weight_bytes(model: ModelConfig, mesh: Mapping[str, int]) -> float:
    """Bytes of weights that a chip reads to decode one token: its experts, and its `tensor` shard of everything.

    All of its experts are read, as a batch of hundreds of rows reaches each of them. FSDP shards are read whole: they
    are gathered before a player begins.
    """
    matrices = _matrices(model, model.experts / mesh[EXPERT]) + model.width * model.vocab_size
    return 2 * matrices / mesh[TENSOR]


def column_bytes(model: ModelConfig) -> int:
    """Bytes of the keys and values of a token in a cache of bfloat16."""
    return 2 * 2 * model.layers * model.kv_heads * model.head_dim


def text(found: Mapping[str, float]) -> str:
    """The estimate and its formula, for a terminal."""
    lines = ["at best, by formula (a chip's arithmetic or its memory, whichever takes longer; no network)"]
    lines += [f"  {phase:8} {found[phase]:8.1f} s" for phase in PHASES]
    lines[1] += f"   {100 * found['memory_bound'] / found['decode']:.0f} % of it bound by memory"
    return "\n".join([*lines, "", *__doc__.split("\n\n")[1:3]])
