"""Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases on queries, keys and values."""

from negot_jax.models.families import family, llama


def _features(settings):
    features = family.llama_like(settings) | family.window(settings)
    return features | {"mlp": settings.whole("intermediate_size"), "qkv_bias": True}


QWEN2 = family.Family("qwen2", "Qwen2ForCausalLM", _features, llama.TENSORS | family.QKV_BIAS)
