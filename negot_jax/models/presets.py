"""Model architectures and sizes by name.

The published sizes are those of the models' `config.json` on the Hugging Face Hub (Qwen3: Yang et al. 2025,
arXiv 2505.09388; Gemma 3: Gemma Team 2025, arXiv 2503.19786), Gemma's from 4B on without the vision tower.
"""

import dataclasses
import difflib
from typing import Literal

from negot_jax.config import field

LORA_TARGETS = ("query", "key", "value", "out", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021); see `negot_jax.models.lora`."""

    rank: int = field(0, "rank of the adapters; 0 for none")
    alpha: float = field(32.0, "adapters are scaled by alpha / rank")
    targets: tuple[str, ...] = field(LORA_TARGETS, "matrices of attention and MLP that get an adapter")

    def __post_init__(self):
        if self.rank < 0:
            raise ValueError(f"model.lora.rank={self.rank} is negative. Use 0 (no adapters) or more.")
        if wrong := [target for target in self.targets if target not in LORA_TARGETS]:
            near = difflib.get_close_matches(wrong[0], LORA_TARGETS, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"model.lora.targets: {wrong[0]!r} is unknown; did you mean {near!r}? Known: {', '.join(LORA_TARGETS)}."
            )
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"model.lora.targets={self.targets}: name one matrix or more, each once.")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer. Hashable, so that it can be static under jit.

    Families: "qwen3" has RMSNorm before attention and MLP, SwiGLU and, with experts, a router. "gemma3" has norms after
    both as well, norms whose weight is stored less 1, GeGLU, and embeddings times the square root of the width.
    """

    family: Literal["qwen3", "gemma3"] = field("qwen3", "which architecture")
    vocab_size: int | None = field(None, "tokens in the vocabulary; None takes the tokenizer's, and no other will do")
    layers: int = field(2, "transformer layers")
    width: int = field(64, "residual stream width")
    heads: int = field(2, "query heads")
    kv_heads: int = field(1, "key-value heads; must divide heads")
    head_dim: int = field(32, "size of one head; must be even")
    mlp: int = field(192, "hidden width of the gated MLP, or of each expert")
    experts: int = field(0, "experts in every layer; 0 for a dense MLP")
    active_experts: int = field(0, "experts that each token passes through")
    query_scalar: float | None = field(None, "scores are divided by its square root; None takes head_dim")
    rope_theta: float = field(10_000.0, "base of the rotary frequencies")
    rope_factor: float = field(1.0, "positions are divided by this before they are rotated, but not in local layers")
    window: int | None = field(None, "local layers see this many tokens, their own included; None: no local layers")
    global_every: int = field(1, "every n-th layer is global, the others are local")
    local_rope_theta: float = field(10_000.0, "base of the rotary frequencies of local layers")
    norm_eps: float = field(1e-6, "epsilon of RMSNorm")
    tied_embedding: bool = field(True, "whether the output matrix is the embedding")
    dtype: Literal["float32", "bfloat16"] = field(
        "float32", "type of activations and cache; weights keep the type they were made or loaded with"
    )
    remat: Literal["none", "dots", "full"] = field(
        "none", "what a layer's backward pass computes again: nothing, all but dense matrix products, or everything"
    )
    lora: LoraConfig = field(LoraConfig(), "low-rank adapters")

    def __post_init__(self):
        for name in ("vocab_size", "layers", "width", "heads", "kv_heads", "head_dim", "mlp", "window", "global_every"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"model.{name}={getattr(self, name)} must be at least 1.")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"model.kv_heads={self.kv_heads} does not divide model.heads={self.heads}: each key-value head serves "
                f"the same number of query heads. Choose a divisor of {self.heads}."
            )
        if self.head_dim % 2:
            raise ValueError(f"model.head_dim={self.head_dim} is odd: rotary embedding turns pairs. Use an even size.")
        if (self.window is None) != (self.global_every == 1):
            raise ValueError(
                f"model.window={self.window}, model.global_every={self.global_every}: a window is for local layers, "
                "which there are if not every layer is global. Set both, or window=None and global_every=1."
            )
        if not (1 <= self.active_experts <= self.experts or self.experts == self.active_experts == 0):
            raise ValueError(
                f"model.active_experts={self.active_experts}, model.experts={self.experts}: a token passes through at "
                "least one expert and at most all. Set both to 0 for a dense MLP."
            )
        for name, known in (
            ("family", ("qwen3", "gemma3")),
            ("dtype", ("float32", "bfloat16")),
            ("remat", ("none", "dots", "full")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"model.{name}={getattr(self, name)!r}: use one of {', '.join(map(repr, known))}.")


def _qwen3(layers, width, heads, kv_heads, mlp, **rest) -> ModelConfig:
    return ModelConfig(
        vocab_size=151_936,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=128,
        mlp=mlp,
        dtype="bfloat16",
        **{"rope_theta": 1e6} | rest,
    )


def _gemma3(layers, width, heads, kv_heads, mlp, **rest) -> ModelConfig:
    return ModelConfig(
        family="gemma3",
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        mlp=mlp,
        global_every=6,
        rope_theta=1e6,
        dtype="bfloat16",
        **{"head_dim": 256, "query_scalar": 256.0} | rest,
    )


_LARGE_GEMMA = {"vocab_size": 262_208, "window": 1024, "rope_factor": 8.0}

PRESETS = {
    "tiny": ModelConfig(),
    "qwen3-0.6b": _qwen3(28, 1024, 16, 8, 3072),
    "qwen3-1.7b": _qwen3(28, 2048, 16, 8, 6144),
    "qwen3-4b": _qwen3(36, 2560, 32, 8, 9728),
    "qwen3-4b-instruct-2507": _qwen3(36, 2560, 32, 8, 9728, rope_theta=5e6),
    "qwen3-8b": _qwen3(36, 4096, 32, 8, 12_288, tied_embedding=False),
    "qwen3-14b": _qwen3(40, 5120, 40, 8, 17_408, tied_embedding=False),
    "qwen3-32b": _qwen3(64, 5120, 64, 8, 25_600, tied_embedding=False),
    "qwen3-30b-a3b": _qwen3(48, 2048, 32, 4, 768, experts=128, active_experts=8, tied_embedding=False),
    "qwen3-30b-a3b-instruct-2507": _qwen3(
        48, 2048, 32, 4, 768, experts=128, active_experts=8, tied_embedding=False, rope_theta=1e7
    ),
    "gemma3-270m": _gemma3(18, 640, 4, 1, 2048, vocab_size=262_144, window=512),
    "gemma3-1b": _gemma3(26, 1152, 4, 1, 6912, vocab_size=262_144, window=512),
    "gemma3-4b": _gemma3(34, 2560, 8, 4, 10_240, **_LARGE_GEMMA),
    "gemma3-12b": _gemma3(48, 3840, 16, 8, 15_360, **_LARGE_GEMMA),
    "gemma3-27b": _gemma3(62, 5376, 32, 16, 21_504, head_dim=128, query_scalar=168.0, **_LARGE_GEMMA),
}


def preset(name: str, **overrides) -> ModelConfig:
    """The named preset with some fields replaced; an unknown name is an error that offers the nearest one."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1) or list(PRESETS)
        raise ValueError(f"model preset {name!r} is unknown; did you mean {near[0]!r}? Known: {', '.join(PRESETS)}.")
    return dataclasses.replace(PRESETS[name], **overrides)
