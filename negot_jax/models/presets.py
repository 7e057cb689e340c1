"""Model sizes by name."""

import dataclasses
import difflib
from typing import Literal

from negot_jax.config import field


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer. Hashable, so that it can be static under jit."""

    vocab_size: int | None = field(None, "tokens in the vocabulary; None takes the tokenizer's, and no other will do")
    layers: int = field(2, "transformer layers")
    width: int = field(64, "residual stream width")
    heads: int = field(2, "query heads")
    kv_heads: int = field(1, "key-value heads; must divide heads")
    head_dim: int = field(32, "size of one head; must be even")
    mlp: int = field(192, "hidden width of the SwiGLU")
    rope_theta: float = field(10_000.0, "base of the rotary frequencies")
    norm_eps: float = field(1e-6, "epsilon of RMSNorm")
    tied_embedding: bool = field(True, "whether the output matrix is the embedding")
    dtype: Literal["float32", "bfloat16"] = field("float32", "type of activations and cache; weights are float32")

    def __post_init__(self):
        for name in ("vocab_size", "layers", "width", "heads", "kv_heads", "head_dim", "mlp"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"model.{name}={getattr(self, name)} must be at least 1.")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"model.kv_heads={self.kv_heads} does not divide model.heads={self.heads}: each key-value head serves "
                f"the same number of query heads. Choose a divisor of {self.heads}."
            )
        if self.head_dim % 2:
            raise ValueError(f"model.head_dim={self.head_dim} is odd: rotary embedding turns pairs. Use an even size.")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"model.dtype={self.dtype!r}: use 'float32' or 'bfloat16'.")


PRESETS = {
    "tiny": ModelConfig(),
}


def preset(name: str, **overrides) -> ModelConfig:
    """The named preset with some fields replaced; an unknown name is an error that offers the nearest one."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1) or list(PRESETS)
        raise ValueError(f"model preset {name!r} is unknown; did you mean {near[0]!r}? Known: {', '.join(PRESETS)}.")
    return dataclasses.replace(PRESETS[name], **overrides)
