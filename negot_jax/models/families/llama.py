"""Llama and the families that grew from it: SwiGLU, one rotary embedding for all layers."""

from negot_jax.models.families import family


def _common(settings, head_dim=None, mlp="intermediate_size"):
    """Their features. head_dim: where the settings name none; by default the width over the heads."""
    settings.only("hidden_act", "silu")
    features = family.sizes(settings)
    return features | {
        "head_dim": settings.whole("head_dim", head_dim or features["width"] // features["heads"]),
        "mlp": settings.whole(mlp),
        "rope": family.rope(settings),
        "tied_embedding": settings.flag("tie_word_embeddings", False),
        "qk_norm": False,
    }


def _window(settings):
    """The tokens of a local layer: 4096 where the setting is absent, None where it is null: then no layer is local."""
    return settings.whole("sliding_window", None if "sliding_window" in settings.values else 4096)


def _alike(settings, features, window):
    """The local layers of a family in which all are, or none."""
    if family.layer_types(settings, (window is not None,) * features["layers"]) != (window is not None,):
        told = f"Here every layer is one of {'full' if window is None else 'sliding'}_attention."
        settings.refuse("layer_types", settings.values["layer_types"], told)
    return features if window is None else features | {"window": window, "local_layers": (True,)}


def _qwen_window(settings, layers):
    """The local layers of Qwen: `layer_types`, or those from `max_window_layers` on, and none unless they are used."""
    window, first = None, settings.whole("max_window_layers", 28, least=0)
    if settings.flag("use_sliding_window", False):
        window = _window(settings)
    settings.pass_over("sliding_window")
    local = family.layer_types(settings, tuple(window is not None and layer >= first for layer in range(layers)))
    if any(local) and window is None:
        settings.refuse("layer_types", settings.values["layer_types"], "With use_sliding_window=false no layer slides.")
    return {"window": window, "local_layers": local} if any(local) else {}


def _llama(settings):
    """Llama 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024) and what shares their form: SmolLM2, TinyLlama."""
    settings.fill({"num_key_value_heads": settings.whole("num_attention_heads")})
    return _alike(settings, _common(settings), None)


def _mistral(settings):
    """Mistral (Jiang et al. 2023): a window in every layer, in its first version."""
    return _alike(settings, _common(settings), _window(settings))


def _qwen2(settings):
    """Qwen2 and Qwen2.5 (Yang et al. 2024): biases on queries, keys and values."""
    # Of these the first is the same in all, and the second concerns prompts of 262,144 tokens and more.
    settings.pass_over("attention_bias", "dual_chunk_attention_config")
    features = _common(settings)
    return features | _qwen_window(settings, features["layers"]) | {"qkv_bias": True}


def _qwen3(settings):
    """Qwen3 (Yang et al. 2025, arXiv 2505.09388): QK-norm in place of biases."""
    settings.only("use_qk_norm", True)
    features = _common(settings, head_dim=128)
    return features | _qwen_window(settings, features["layers"]) | {"qk_norm": True}


def _qwen3_moe(settings):
    """Qwen3 with a mixture of experts, in every layer or in some."""
    settings.only("use_qk_norm", True)
    settings.pass_over("max_window_layers", "sliding_window")  # The first is of Qwen3 without experts.
    window = _window(settings) if settings.flag("use_sliding_window", False) else None
    other = settings.whole("num_local_experts", None, most=family.MANY)
    settings.fill({"num_experts": other})
    experts = settings.whole("num_experts", most=family.MANY)
    if other not in (None, experts):
        settings.refuse("num_local_experts", other, f"With num_experts={experts} it must be the same.")
    features = _common(settings, mlp="moe_intermediate_size") | {
        "experts": experts,
        "active_experts": settings.whole("num_experts_per_tok"),
        "normalized_experts": settings.flag("norm_topk_prob", False),
        "qk_norm": True,
    }
    return _alike(settings, features, window) | _dense_layers(settings, features["layers"])


def _dense_layers(settings, layers):
    every = settings.whole("decoder_sparse_step", 1)
    listed, mlp = settings.get("mlp_only_layers", []), settings.whole("intermediate_size", 6144)
    if not isinstance(listed, list) or not all(type(layer) is int for layer in listed):
        settings.refuse("mlp_only_layers", listed, "It must be a list of layers' numbers.")
    dense = tuple(layer in listed or (layer + 1) % every != 0 for layer in range(layers))
    if all(dense):
        settings.refuse("decoder_sparse_step", every, f"With mlp_only_layers={listed} no layer has experts.")
    return {"dense_layers": family.shortest(dense), "dense_mlp": mlp} if any(dense) else {}


_TENSORS = family.ENDS | family.ATTENTION | family.PRE_NORM
_DENSE, _EXPERTS = _TENSORS | family.MLP, _TENSORS | family.EXPERTS | family.DENSE
FAMILIES = (
    family.Family("llama", "LlamaForCausalLM", _llama, _DENSE),
    family.Family("mistral", "MistralForCausalLM", _mistral, _DENSE),
    family.Family("qwen2", "Qwen2ForCausalLM", _qwen2, _DENSE | family.QKV_BIAS),
    family.Family("qwen3", "Qwen3ForCausalLM", _qwen3, _DENSE | family.QK_NORM),
    family.Family("qwen3_moe", "Qwen3MoeForCausalLM", _qwen3_moe, _EXPERTS | family.QK_NORM),
)
