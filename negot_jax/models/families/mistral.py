"""Mistral (Jiang et al. 2023): Llama with a window in every layer, in its first version."""

from negot_jax.models.families import family, llama


def _features(settings):
    features = family.llama_like(settings) | {"mlp": settings.whole("intermediate_size")}
    null = "sliding_window" in settings.values and settings.values["sliding_window"] is None
    if (window := settings.whole("sliding_window", None if null else 4096)) is None:
        return features
    return features | {"window": window, "local_layers": (True,)}


MISTRAL = family.Family("mistral", "MistralForCausalLM", _features, llama.TENSORS)
