"""A critic on the language model's trunk: one linear output per token, kept under "value" in the model's weights."""

import jax
import jax.numpy as jnp

from negot_jax.models.presets import ModelConfig
from negot_jax.models.transformer import Weights

_NAME = "value"


def attach(weights: Weights, config: ModelConfig) -> Weights:
    """The weights with a critic that values every state 0."""
    return {**weights, _NAME: {"kernel": jnp.zeros(config.width), "bias": jnp.zeros(())}}


def values(weights: Weights, hidden: jax.Array) -> jax.Array:
    """Float32 values of the states that the hidden states [..., D] stand for: [...]; 0 where there is no critic."""
    if _NAME not in weights:
        return jnp.zeros(hidden.shape[:-1])
    head = weights[_NAME]
    return hidden.astype(jnp.float32) @ head["kernel"] + head["bias"]
