"""Qwen3 with a mixture of experts in every layer."""

from negot_jax.models.families import family


def _features(settings):
    settings.only("decoder_sparse_step", 1)
    settings.pass_over("intermediate_size", "max_window_layers")  # Of dense layers; of Qwen3 without experts.
    features = family.llama_like(settings) | {
        "mlp": settings.whole("moe_intermediate_size"),
        "experts": settings.whole(
            "num_experts", settings.whole("num_local_experts", None, most=family.MANY), most=family.MANY
        ),
        "active_experts": settings.whole("num_experts_per_tok"),
        "normalized_experts": settings.flag("norm_topk_prob", False),
        "qk_norm": True,
    }
    size = settings.whole("sliding_window", 4096)
    if settings.flag("use_sliding_window", False):
        features |= {"window": size, "local_layers": (True,)}
    return features


TENSORS = family.ENDS | family.ATTENTION | family.QK_NORM | family.PRE_NORM | family.EXPERTS
QWEN3_MOE = family.Family("qwen3_moe", "Qwen3MoeForCausalLM", _features, TENSORS)
