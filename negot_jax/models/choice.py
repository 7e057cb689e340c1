"""Which model: a published one from a checkpoint's folder, or a preset of random weights, larger or smaller at will."""

import dataclasses
from typing import Literal

from negot_jax.config import field
from negot_jax.models import hf_config
from negot_jax.models.presets import PRESETS, LoraConfig, ModelConfig, preset

_OURS = ("dtype", "matmul", "remat", "replay_experts", "lora")  # How a model computes, not what it is.


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """The language model. Where a field is None, the checkpoint's or the preset's own value stands."""

    preset: str = field("tiny", f"sizes by name, where there is no checkpoint: one of {', '.join(PRESETS)}")
    checkpoint: str | None = field(None, "folder of a Hugging Face checkpoint, or gs://bucket/folder, which is copied")
    layers: int | None = field(None, "transformer layers; of a checkpoint with more, the first ones")
    width: int | None = field(None, "residual stream width")
    heads: int | None = field(None, "query heads")
    kv_heads: int | None = field(None, "key-value heads; must divide heads")
    head_dim: int | None = field(None, "size of one head; must be even")
    mlp: int | None = field(None, "hidden width of the gated MLP, or of each expert")
    experts: int | None = field(None, "experts in every layer; 0 for a dense MLP")
    active_experts: int | None = field(None, "experts that each token passes through")
    window: int | None = field(None, "tokens that a local layer sees")
    vocab_size: int | None = field(None, "tokens in the vocabulary; None takes the tokenizer's, the only size allowed")
    dtype: Literal["float32", "bfloat16"] | None = field(None, "type of activations and cache")
    matmul: Literal["float32", "bfloat16"] | None = field(
        None, "type in which activations are multiplied by weights, summed in float32; None takes dtype"
    )
    remat: Literal["none", "dots", "full"] | None = field(
        None, "what a layer's backward pass computes again: nothing, all but dense matrix products, or everything"
    )
    replay_experts: bool = field(
        False, "whether training routes tokens to the experts used in sampling (R3), not to those its own router picks"
    )
    lora: LoraConfig = field(LoraConfig(), "low-rank adapters; with them nothing else of the model is trained")

    def config(self) -> ModelConfig:
        """The model. A preset's vocabulary is left open: the tokenizer's is taken.

        Raises ValueError for an unknown preset, sizes that do not fit each other, a checkpoint that cannot be read, or
        a size that is not the checkpoint's.
        """
        given = {name: value for name, value in vars(self).items() if value is not None}
        own = {name: value for name, value in given.items() if name not in ("preset", "checkpoint")}
        if self.checkpoint is None:
            return preset(self.preset, **{"vocab_size": None} | own)
        published = hf_config.read(self.checkpoint)
        for name in own.keys() - set(_OURS):
            value, theirs = own[name], getattr(published, name)
            if value != theirs and not (name == "layers" and 1 <= value < theirs):
                raise ValueError(
                    f"model.{name}={value}, but the checkpoint {self.checkpoint} has {theirs}. Leave it out; only "
                    "layers can be fewer."
                )
        return dataclasses.replace(published, **own)
