"""Gemma 3 (Gemma Team 2025, arXiv 2503.19786): text models, and of multimodal ones the language model.

Norms on both sides of attention and MLP, stored minus 1; GeGLU; scaled embeddings; local layers with a rotary base of
their own. Published files name only what differs from the defaults.
"""

import dataclasses

from negot_jax.models.families import family

_DEFAULTS = {"vocab_size": 262_208, "hidden_size": 2304, "num_hidden_layers": 26}
_DEFAULTS |= {"num_attention_heads": 8, "num_key_value_heads": 4}
# Where the language model's names begin, in two versions of the library, and the parts that are left out.
_NESTED = {"language_model.model.": "model.", "model.language_model.": "model.", "language_model.lm_head.": "lm_head."}
_VISION = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


def _features(settings):
    settings.only("hidden_activation", "gelu_pytorch_tanh")
    settings.pass_over("hidden_act", "_sliding_window_pattern")  # transformers reads neither.
    settings.fill(_DEFAULTS)
    layers = settings.whole("num_hidden_layers", most=family.MANY)
    every = settings.whole("sliding_window_pattern", 6)
    local = family.layer_types(settings, tuple((layer + 1) % every != 0 for layer in range(layers)))
    window = settings.whole("sliding_window", 4096)
    full, sliding = _ropes(settings)
    return family.sizes(settings) | {
        "head_dim": settings.whole("head_dim", 256),
        "mlp": settings.whole("intermediate_size", 9216),
        "query_scalar": settings.number("query_pre_attn_scalar", 256.0),
        "tied_embedding": settings.flag("tie_word_embeddings", True),
        "activation": "gelu",
        "norm_offset": 1.0,
        "sandwich_norm": True,
        "scaled_embedding": True,
        "rope": full,
        **({"window": window, "local_layers": local, "local_rope": sliding} if any(local) else {}),
    }


def _ropes(settings):
    """The rotary embeddings of global and local layers; `rope_scaling`, the older form, is of global ones."""
    given, older = settings.get("rope_parameters", {}), settings.get("rope_scaling", {})
    if not isinstance(given, dict) or not isinstance(older, dict):
        settings.refuse("rope_parameters", given or older, "It must be an object.")
    if unknown := sorted(set(given) - {"full_attention", "sliding_attention"}):
        settings.refuse(f"rope_parameters.{unknown[0]}", given[unknown[0]], "Use full_attention and sliding_attention.")
    of = lambda kind: given.get(kind) if given.get(kind) is not None else {}
    full, sliding = of("full_attention"), of("sliding_attention")
    if older and isinstance(full, dict):
        full = {**full, **older}
    return (
        family.rope_of(settings, "rope_parameters.full_attention", full, "rope_theta", 1e6),
        family.rope_of(settings, "rope_parameters.sliding_attention", sliding, "rope_local_base_freq", 10_000.0),
    )


def _rename(name):
    if name.startswith(_VISION):
        return None
    return next(
        (plain + name.removeprefix(nested) for nested, plain in _NESTED.items() if name.startswith(nested)), name
    )


_TENSORS = family.ENDS | family.ATTENTION | family.QK_NORM | family.SANDWICH_NORM | family.MLP
_TEXT = family.Family("gemma3_text", "Gemma3ForCausalLM", _features, _TENSORS, _rename)
FAMILIES = (_TEXT, dataclasses.replace(_TEXT, model_type="gemma3", nested="text_config"))
