"""`config.json` of a Hugging Face checkpoint, read as a `ModelConfig`.

What is left out of the file takes the value that the `transformers` library gives it: Gemma's published files name only
what differs. A setting that would change the numbers, and that `transformer` does not know, is refused by its name.
"""

import json
import pathlib
from typing import Any

from negot_jax.models.presets import ModelConfig

_FAMILIES = {"qwen3": "qwen3", "qwen3_moe": "qwen3", "gemma3_text": "gemma3"}

_DEFAULTS = {
    "qwen3": {"head_dim": 128, "rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "tie_word_embeddings": False},
    "qwen3_moe": {"rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "tie_word_embeddings": False, "norm_topk_prob": False},
    "gemma3_text": {
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10_000.0,
        "tie_word_embeddings": True,
    },
}

# Settings with one value that is supported, besides being left out or null.
_ONLY = {
    "attention_bias": False,
    "attention_dropout": 0,
    "attn_logit_softcapping": None,
    "decoder_sparse_step": 1,
    "final_logit_softcapping": None,
    "hidden_act": "silu",
    "hidden_activation": "gelu_pytorch_tanh",
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "use_bidirectional_attention": False,
    "use_sliding_window": False,
}

# Settings that are read below, and settings that leave the forward pass as it is.
_READ = """architectures dtype head_dim hidden_size intermediate_size layer_types model_type moe_intermediate_size
num_attention_heads num_experts num_experts_per_tok num_hidden_layers num_key_value_heads num_local_experts
query_pre_attn_scalar rms_norm_eps rope_local_base_freq rope_parameters rope_scaling rope_theta sliding_window
sliding_window_pattern _sliding_window_pattern tie_word_embeddings torch_dtype vocab_size""".split()
_HARMLESS = """_name_or_path bos_token_id cache_implementation eos_token_id initializer_range max_position_embeddings
max_window_layers output_router_logits pad_token_id router_aux_loss_coef transformers_version use_cache""".split()


def read(folder: str | pathlib.Path) -> ModelConfig:
    """The architecture of the checkpoint in a folder; its stored type becomes the type of activations.

    Raises:
      ValueError: a setting or a model type that is not supported, named with its value; or there is no such file.
    """
    path = pathlib.Path(folder) / "config.json"
    if not path.exists():
        raise ValueError(f"{folder} holds no checkpoint: no config.json. Name the folder that was downloaded.")
    whole = json.loads(path.read_text())
    return _parse(text_settings(whole), str(path), whole.get("dtype", whole.get("torch_dtype")))


def text_settings(whole: dict[str, Any]) -> dict[str, Any]:
    """The settings of the language model: of a multimodal Gemma 3 the part that is text, of others all."""
    if whole.get("model_type") != "gemma3":
        return whole
    return {"model_type": "gemma3_text", **whole["text_config"]}


def first_layers(settings: dict[str, Any], count: int) -> dict[str, Any]:
    """The settings of a model that is the first layers of another one."""
    kinds = {"layer_types": settings["layer_types"][:count]} if settings.get("layer_types") else {}
    return {**settings, "num_hidden_layers": count, **kinds}


def _parse(settings: dict[str, Any], path: str, stored: str | None) -> ModelConfig:
    """The `ModelConfig` of the settings read from a path; stored is the type to use where they name none."""

    def refuse(name, value, way_out):
        raise ValueError(f"{path}: {name}={value!r} is not supported. {way_out}")

    kind = settings.get("model_type")
    if kind not in _FAMILIES:
        refuse("model_type", kind, f"Known: {', '.join(_FAMILIES)}, and gemma3, of which the text model is read.")
    values = _DEFAULTS[kind] | {name: value for name, value in settings.items() if value is not None}
    for name, value in values.items():
        if name in _ONLY:
            if value != _ONLY[name]:
                refuse(name, value, f"Use a checkpoint with {_ONLY[name]!r}.")
        elif value and name not in _READ and name not in _HARMLESS and name not in _DEFAULTS[kind]:
            refuse(name, value, "It is not known here, and may change what the model computes.")
    dtype = values.get("dtype", values.get("torch_dtype", stored)) or "float32"
    if dtype not in ("float32", "bfloat16"):
        refuse("dtype", dtype, "Convert the checkpoint to 'float32' or 'bfloat16'.")

    rope = _rope(values, "full_attention", refuse)
    gemma, experts = kind == "gemma3_text", kind == "qwen3_moe"
    values.setdefault("num_experts", values.get("num_local_experts"))
    needed = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
    needed += ["moe_intermediate_size", "num_experts", "num_experts_per_tok"] if experts else ["intermediate_size"]
    if lacking := [name for name in needed if values.get(name) is None]:
        raise ValueError(f"{path} lacks {', '.join(lacking)}. Use the file that came with the checkpoint.")
    local = {}
    if gemma:
        window, global_every = _layers(values, refuse)
        local_rope = _rope(values, "sliding_attention", refuse)
        if local_rope["factor"] != 1:
            refuse("rope_parameters.sliding_attention.factor", local_rope["factor"], "Local layers have 1.")
        local = {
            "window": window,
            "global_every": global_every,
            "local_rope_theta": float(local_rope["rope_theta"] or values["rope_local_base_freq"]),
            "query_scalar": float(values["query_pre_attn_scalar"]),
        }
    return ModelConfig(
        family=_FAMILIES[kind],
        vocab_size=values["vocab_size"],
        layers=values["num_hidden_layers"],
        width=values["hidden_size"],
        heads=values["num_attention_heads"],
        kv_heads=values["num_key_value_heads"],
        head_dim=values.get("head_dim", values["hidden_size"] // values["num_attention_heads"]),
        mlp=values["moe_intermediate_size" if experts else "intermediate_size"],
        experts=values["num_experts"] if experts else 0,
        active_experts=values["num_experts_per_tok"] if experts else 0,
        rope_theta=float(rope["rope_theta"] or values["rope_theta"]),
        rope_factor=float(rope["factor"]),
        norm_eps=values["rms_norm_eps"],
        tied_embedding=values["tie_word_embeddings"],
        dtype=dtype,
        **local,
    )


def _rope(values: dict[str, Any], layers: str, refuse) -> dict[str, Any]:
    """The rotary settings of one kind of layers: {"rope_type", "rope_theta" (None: named elsewhere), "factor"}.

    Two forms are in use: `rope_parameters`, for each kind of layers apart where kinds differ, and the older
    `rope_scaling`, which is for global layers.
    """
    given = values.get("rope_parameters", {})
    given = given.get(layers, {}) if {"full_attention", "sliding_attention"} & set(given) else given
    older = values.get("rope_scaling", {}) if layers == "full_attention" else {}
    rope = {"rope_type": "default", "rope_theta": None, "factor": 1.0}
    rope |= {"rope_type" if name == "type" else name: value for name, value in {**older, **given}.items()}
    if rope["rope_type"] not in ("default", "linear"):
        refuse(f"rope_type of {layers}", rope["rope_type"], "Known: 'default' and 'linear'.")
    if unknown := sorted(set(rope) - {"rope_type", "rope_theta", "factor"}):
        refuse(f"rope parameter {unknown[0]}", rope[unknown[0]], "Known: rope_type, rope_theta and factor.")
    return rope


def _layers(values: dict[str, Any], refuse) -> tuple[int | None, int]:
    """The window of local layers, and which layers are global: every n-th."""
    layers = values["num_hidden_layers"]
    every = lambda n: ["full_attention" if (i + 1) % n == 0 else "sliding_attention" for i in range(layers)]
    kinds = values.get("layer_types", every(values.get("_sliding_window_pattern", values["sliding_window_pattern"])))
    for n in range(1, layers + 2):
        if kinds == every(n):
            return (None, 1) if n == 1 else (values["sliding_window"], n)
    return refuse("layer_types", kinds, "Every n-th layer must be 'full_attention', the others 'sliding_attention'.")
