"""Model architectures and sizes by name.

The published sizes are those of the models' `config.json` on the Hugging Face Hub (Qwen3: Yang et al. 2025,
arXiv 2505.09388; Gemma 3: Gemma Team 2025, arXiv 2503.19786), Gemma's from 4B on without the vision tower.
"""

import dataclasses
import math
import typing
from typing import Literal

from negot_jax.config import field, require, require_known

LORA_TARGETS = ("query", "key", "value", "out", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021); see `negot_jax.models.lora`."""

    rank: int = field(0, "rank of the adapters, for an expert divided by active_experts; 0 for none")
    alpha: float = field(32.0, "adapters are scaled by alpha over their rank")
    targets: tuple[str, ...] = field(LORA_TARGETS, "matrices of attention and MLP that get an adapter")

    def __post_init__(self):
        if self.rank < 0:
            raise ValueError(f"model.lora.rank={self.rank} is negative. Use 0 (no adapters) or more.")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"model.lora.alpha={self.alpha} must be a positive number.")
        for target in self.targets:
            require_known("model.lora.targets:", target, LORA_TARGETS)
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"model.lora.targets={self.targets}: name one matrix or more, each once.")


@dataclasses.dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding (Su et al. 2021) and how it is stretched.

    kind: "linear" divides all frequencies by the factor (Chen et al. 2023), "llama3" the low ones alone, "yarn" by a
    ramp between beta_slow and beta_fast turns in the original length (Peng et al. 2023).
    """

    theta: float = 10_000.0
    kind: Literal["default", "linear", "llama3", "yarn"] = "default"
    factor: float = 1.0
    original_length: float = 8192.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0  # Sine and cosine are multiplied by it.
    truncate: bool = True  # Whether yarn's ramp begins and ends at whole indices.


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A transformer as a set of features. Hashable, so that it can be static under jit.

    All have RMSNorm before attention and MLP, a gated MLP and rotary embedding; the defaults are a small Qwen3's.
    `negot_jax.models.families` says which features each published family has.
    """

    vocab_size: int | None = field(None, "tokens in the vocabulary; None takes the tokenizer's, the only size allowed")
    layers: int = field(2, "transformer layers")
    width: int = field(64, "residual stream width")
    heads: int = field(2, "query heads")
    kv_heads: int = field(1, "key-value heads; must divide heads")
    head_dim: int = field(32, "size of one head; must be even")
    mlp: int = field(192, "hidden width of the gated MLP, or of each expert")
    experts: int = field(0, "experts in every layer that is not dense; 0 for a dense MLP in all")
    dense_layers: tuple[bool, ...] = field((False,), "of a mixture, which layers are dense, repeated over the layers")
    dense_mlp: int | None = field(None, "hidden width of the MLP of a mixture's dense layers")
    active_experts: int = field(0, "experts that each token passes through")
    query_scalar: float | None = field(None, "scores are divided by its square root; None takes head_dim")
    normalized_experts: bool = field(True, "whether the weights of a token's experts sum to 1")
    rope: RopeConfig = field(RopeConfig(), "rotary position embedding")
    window: int | None = field(None, "local layers see this many tokens, their own included; None: no local layers")
    local_layers: tuple[bool, ...] = field((False,), "which layers are local, repeated over the layers")
    local_rope: RopeConfig | None = field(None, "rotary position embedding of local layers; None takes that of all")
    qk_norm: bool = field(True, "RMSNorm of queries and keys, for each head")
    qkv_bias: bool = field(False, "biases on queries, keys and values")
    activation: Literal["silu", "gelu"] = field("silu", "of the MLP's gate; gelu is the tanh approximation")
    sandwich_norm: bool = field(False, "RMSNorm after attention and MLP too, before the residual is added")
    scaled_embedding: bool = field(False, "embeddings are multiplied by the square root of the width")
    norm_offset: float = field(0.0, "added to the stored scales of RMSNorm")
    norm_eps: float = field(1e-6, "epsilon of RMSNorm")
    tied_embedding: bool = field(True, "whether the output matrix is the embedding")
    dtype: Literal["float32", "bfloat16"] = field("float32", "type of activations and cache, not of weights")
    matmul: Literal["float32", "bfloat16"] | None = field(None, "type of products with weights; None takes dtype")
    remat: Literal["none", "dots", "full"] = field("none", "what a layer's backward pass computes again")
    replay_experts: bool = field(False, "whether training routes tokens to the experts used in sampling (R3)")
    lora: LoraConfig = field(LoraConfig(), "low-rank adapters")

    def __post_init__(self):
        sizes = "vocab_size layers width heads kv_heads head_dim mlp dense_mlp window"
        require("model", self, sizes, lambda size: size is None or size >= 1, "must be at least 1.")
        require("model", self, "norm_eps query_scalar", lambda value: value is None or value > 0, "must be above 0.")
        require("model", self, "local_layers dense_layers", bool, "is empty: name one layer or more.")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"model.kv_heads={self.kv_heads} does not divide model.heads={self.heads}: each key-value head serves "
                f"the same number of query heads. Choose a divisor of {self.heads}."
            )
        if self.head_dim % 2:
            raise ValueError(f"model.head_dim={self.head_dim} is odd: rotary embedding turns pairs. Use an even size.")
        if self.window is None and any(self.local_layers):
            raise ValueError(f"model.local_layers={self.local_layers} need model.window, how many tokens they see.")
        if self.window is not None and not any(self.local_layers):
            raise ValueError(f"model.window={self.window}: this model has no local layers. Leave it out.")
        if self.experts and self.activation != "silu":
            raise ValueError(
                f"model.experts={self.experts} with the activation {self.activation!r}: experts apply SiLU alone. "
                "Leave experts out, or take another preset, such as qwen3-30b-a3b."
            )
        if not (1 <= self.active_experts <= self.experts or self.experts == self.active_experts == 0):
            raise ValueError(
                f"model.active_experts={self.active_experts}, model.experts={self.experts}: a token passes through at "
                "least one expert and at most all. Set both to 0 for a dense MLP."
            )
        if any(self.dense_layers) != (self.dense_mlp is not None) or (any(self.dense_layers) and not self.experts):
            raise ValueError(
                f"model.dense_layers={self.dense_layers}, model.dense_mlp={self.dense_mlp}, model.experts="
                f"{self.experts}: a mixture may have dense layers among those with experts. Set both, or neither."
            )
        if self.experts and not self.mixtures:
            raise ValueError(f"model.layers={self.layers} keeps only the dense layers of a mixture. Take more.")
        if any(self.dense_layers) and self.lora.rank and set(self.lora.targets) & {"gate", "up", "down"}:
            raise ValueError(
                f"model.lora.targets={self.lora.targets}: a mixture with dense layers takes adapters on attention "
                "alone. Use query, key, value and out."
            )
        if self.replay_experts and not self.experts:
            raise ValueError("model.replay_experts=True, but the model has no experts. Leave it out.")
        for item in dataclasses.fields(self):
            value, kinds = getattr(self, item.name), (item.type, *typing.get_args(item.type))
            known = [name for kind in kinds if typing.get_origin(kind) is Literal for name in typing.get_args(kind)]
            if known and value not in known and value != item.default:
                raise ValueError(f"model.{item.name}={value!r}: use one of {', '.join(map(repr, known))}.")

    @property
    def products(self) -> str:
        """The type in which activations are multiplied by weights."""
        return self.matmul or self.dtype

    @property
    def expert_ids(self) -> str:
        """The integer type of expert ids."""
        return "uint8" if self.experts <= 256 else "uint16"

    @property
    def is_dense(self) -> tuple[bool, ...]:
        """For each layer, whether it is dense: one MLP for all tokens."""
        return tuple(not self.experts or self.dense_layers[n % len(self.dense_layers)] for n in range(self.layers))

    @property
    def mixtures(self) -> int:
        """The number of layers with experts."""
        return self.is_dense.count(False)

    def layers_with(self, part: str) -> tuple[int, ...]:
        """The layers that have a part of a block: its weights are stacked over them.

        In a mixture, "mlp" holds the experts and "dense" the MLPs of its dense layers.
        """
        if part not in ("mlp", "dense") or not any(self.dense_layers):
            return tuple(range(self.layers))
        return tuple(layer for layer, dense in enumerate(self.is_dense) if dense == (part == "dense"))

    @property
    def is_local(self) -> tuple[bool, ...]:
        """For each layer, whether it is local."""
        return tuple(self.local_layers[layer % len(self.local_layers)] for layer in range(self.layers))


_QWEN3 = ModelConfig(vocab_size=151_936, head_dim=128, rope=RopeConfig(1e6), dtype="bfloat16")
_GEMMA3 = ModelConfig(
    vocab_size=262_144,
    head_dim=256,
    query_scalar=256.0,
    rope=RopeConfig(1e6),
    window=512,
    local_layers=(True,) * 5 + (False,),
    local_rope=RopeConfig(),
    activation="gelu",
    sandwich_norm=True,
    scaled_embedding=True,
    norm_offset=1.0,
    dtype="bfloat16",
)
_LARGE_GEMMA3 = dataclasses.replace(_GEMMA3, vocab_size=262_208, window=1024, rope=RopeConfig(1e6, "linear", 8.0))


def _sized(family: ModelConfig, layers, width, heads, kv_heads, mlp, **rest) -> ModelConfig:
    return dataclasses.replace(family, layers=layers, width=width, heads=heads, kv_heads=kv_heads, mlp=mlp, **rest)


PRESETS = {
    "tiny": ModelConfig(),
    "qwen3-0.6b": _sized(_QWEN3, 28, 1024, 16, 8, 3072),
    "qwen3-1.7b": _sized(_QWEN3, 28, 2048, 16, 8, 6144),
    "qwen3-4b": _sized(_QWEN3, 36, 2560, 32, 8, 9728),
    "qwen3-4b-instruct-2507": _sized(_QWEN3, 36, 2560, 32, 8, 9728, rope=RopeConfig(5e6)),
    "qwen3-8b": _sized(_QWEN3, 36, 4096, 32, 8, 12_288, tied_embedding=False),
    "qwen3-14b": _sized(_QWEN3, 40, 5120, 40, 8, 17_408, tied_embedding=False),
    "qwen3-32b": _sized(_QWEN3, 64, 5120, 64, 8, 25_600, tied_embedding=False),
    "qwen3-30b-a3b": _sized(_QWEN3, 48, 2048, 32, 4, 768, experts=128, active_experts=8, tied_embedding=False),
    "qwen3-30b-a3b-instruct-2507": _sized(
        _QWEN3, 48, 2048, 32, 4, 768, experts=128, active_experts=8, tied_embedding=False, rope=RopeConfig(1e7)
    ),
    "gemma3-270m": _sized(_GEMMA3, 18, 640, 4, 1, 2048),
    "gemma3-1b": _sized(_GEMMA3, 26, 1152, 4, 1, 6912),
    "gemma3-4b": _sized(_LARGE_GEMMA3, 34, 2560, 8, 4, 10_240),
    "gemma3-12b": _sized(_LARGE_GEMMA3, 48, 3840, 16, 8, 15_360),
    "gemma3-27b": _sized(_LARGE_GEMMA3, 62, 5376, 32, 16, 21_504, head_dim=128, query_scalar=168.0),
}


def preset(name: str, **overrides) -> ModelConfig:
    """The named preset with some fields replaced; an unknown name is an error that offers the nearest one."""
    return dataclasses.replace(PRESETS[require_known("model preset", name, PRESETS)], **overrides)
