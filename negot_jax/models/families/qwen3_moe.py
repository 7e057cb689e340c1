"""Qwen3 with a mixture of experts, in every layer or in some."""

from negot_jax.models.families import family


def _features(settings):
    settings.pass_over("max_window_layers")  # Of Qwen3 without experts.
    older = settings.whole("num_local_experts", None, most=family.MANY)
    experts = settings.whole("num_experts", older, most=family.MANY)
    features = family.llama_like(settings) | {
        "mlp": settings.whole("moe_intermediate_size"),
        "experts": settings.get("num_experts") if experts is None else experts,
        "active_experts": settings.whole("num_experts_per_tok"),
        "normalized_experts": settings.flag("norm_topk_prob", False),
        "qk_norm": True,
    }
    size = settings.whole("sliding_window", 4096)
    if settings.flag("use_sliding_window", False):
        features |= {"window": size, "local_layers": (True,)}
    return features | _dense_layers(settings)


def _dense_layers(settings):
    layers, every = settings.whole("num_hidden_layers", most=family.MANY), settings.whole("decoder_sparse_step", 1)
    listed, mlp = settings.get("mlp_only_layers", []), settings.whole("intermediate_size", 6144)
    if not isinstance(listed, list) or not all(type(layer) is int for layer in listed):
        settings.refuse("mlp_only_layers", listed, "It must be a list of layers' numbers.")
    dense = tuple(layer in listed or (layer + 1) % every != 0 for layer in range(layers))
    if all(dense):
        settings.refuse("decoder_sparse_step", every, f"With mlp_only_layers={listed} no layer has experts.")
    return {"dense_layers": family.shortest(dense), "dense_mlp": mlp} if any(dense) else {}


TENSORS = family.ENDS | family.ATTENTION | family.QK_NORM | family.PRE_NORM | family.EXPERTS | family.DENSE
QWEN3_MOE = family.Family("qwen3_moe", "Qwen3MoeForCausalLM", _features, TENSORS)
