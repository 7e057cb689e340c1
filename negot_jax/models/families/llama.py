"""Llama 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024) and what shares their form: SmolLM2, TinyLlama."""

from negot_jax.models.families import family


def _features(settings):
    heads = settings.whole("num_attention_heads")
    return family.llama_like(settings, kv_heads=heads) | {"mlp": settings.whole("intermediate_size")}


TENSORS = family.ENDS | family.ATTENTION | family.PRE_NORM | family.MLP
LLAMA = family.Family("llama", "LlamaForCausalLM", _features, TENSORS)
