"""Qwen3 (Yang et al. 2025, arXiv 2505.09388): QK-norm in place of biases."""

from negot_jax.models.families import family, llama


def _features(settings):
    features = family.llama_like(settings, head_dim=128) | family.window(settings)
    return features | {"mlp": settings.whole("intermediate_size"), "qk_norm": True}


QWEN3 = family.Family("qwen3", "Qwen3ForCausalLM", _features, llama.TENSORS | family.QK_NORM)
