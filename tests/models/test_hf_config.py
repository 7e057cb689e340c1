"""`config.json`: the published forms give the presets, and what is not supported is named."""

import dataclasses
import json

import pytest

from negot_jax.models import hf_config
from negot_jax.models.presets import preset

QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_MOE = QWEN3 | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 262144,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "output_router_logits": False,
    "rope_theta": 10000000,
    "router_aux_loss_coef": 0.001,
    "tie_word_embeddings": False,
}
GEMMA3 = {
    "_sliding_window_pattern": 6,
    "architectures": ["Gemma3ForCausalLM"],
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 640,
    "intermediate_size": 2048,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
    "model_type": "gemma3_text",
    "num_attention_heads": 4,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 512,
    "torch_dtype": "bfloat16",
    "use_bidirectional_attention": False,
    "vocab_size": 262144,
}
GEMMA3_27B = {  # Multimodal: the rest is left to the library's defaults.
    "architectures": ["Gemma3ForConditionalGeneration"],
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "model_type": "gemma3",
    "text_config": {
        "head_dim": 128,
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "model_type": "gemma3_text",
        "num_attention_heads": 32,
        "num_hidden_layers": 62,
        "num_key_value_heads": 16,
        "query_pre_attn_scalar": 168,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
}
NEWER = {  # Keys of one version of the library that stand for others of an older one.
    "num_experts": None,
    "num_local_experts": 128,
    "rope_theta": None,
    "rope_parameters": {"rope_theta": 10000000.0, "rope_type": "default"},
    "torch_dtype": None,
    "dtype": "bfloat16",
}
NEWER_GEMMA3 = {
    "layer_types": None,
    "rope_theta": None,
    "rope_local_base_freq": None,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    },
}


def _read(tmp_path, settings):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    return hf_config.read(tmp_path)


@pytest.mark.parametrize(
    "settings, name",
    [
        (QWEN3, "qwen3-0.6b"),
        (QWEN3_MOE, "qwen3-30b-a3b-instruct-2507"),
        (QWEN3_MOE | NEWER, "qwen3-30b-a3b-instruct-2507"),
        (GEMMA3, "gemma3-270m"),
        (GEMMA3 | NEWER_GEMMA3, "gemma3-270m"),
        (GEMMA3_27B, "gemma3-27b"),
    ],
)
def test_published_settings_are_the_preset(tmp_path, settings, name):
    assert _read(tmp_path, settings) == preset(name)


@pytest.mark.parametrize(
    "changes, fields",
    [
        ({"torch_dtype": None}, {"dtype": "float32"}),
        ({"_sliding_window_pattern": 3, "layer_types": None}, {"global_every": 3}),
        ({"layer_types": ["full_attention"] * 18}, {"global_every": 1, "window": None}),
        ({"layer_types": ["sliding_attention"] * 18}, {"global_every": 19}),
        ({"rope_scaling": {"type": "linear", "factor": 4}}, {"rope_factor": 4.0}),
    ],
)
def test_other_settings(tmp_path, changes, fields):
    assert _read(tmp_path, GEMMA3 | changes) == dataclasses.replace(preset("gemma3-270m"), **fields)


@pytest.mark.parametrize("settings", [QWEN3, QWEN3_MOE])
@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "num_hidden_layers", "num_key_value_heads"])
def test_what_is_left_out_is_named(tmp_path, settings, name):
    with pytest.raises(ValueError, match=f"config.json lacks {name}"):
        _read(tmp_path, settings | {name: None})


@pytest.mark.parametrize(
    "settings, message",
    [
        (QWEN3 | {"model_type": "llama"}, "model_type='llama' is not supported. Known: qwen3, .*gemma3"),
        (QWEN3 | {"attention_bias": True}, "attention_bias=True is not supported.*False"),
        (QWEN3 | {"hidden_act": "gelu"}, "hidden_act='gelu'.*'silu'"),
        (QWEN3 | {"use_sliding_window": True}, "use_sliding_window=True"),
        (QWEN3 | {"torch_dtype": "float16"}, "dtype='float16'.*Convert"),
        (QWEN3 | {"quantization_config": {"bits": 4}}, "quantization_config={'bits': 4}"),
        (QWEN3 | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type of full_attention='yarn'"),
        (QWEN3 | {"rope_parameters": {"partial_rotary_factor": 0.5}}, "rope parameter partial_rotary_factor=0.5"),
        (QWEN3_MOE | {"norm_topk_prob": False}, "norm_topk_prob=False"),
        (QWEN3_MOE | {"mlp_only_layers": [3]}, r"mlp_only_layers=\[3\]"),
        (QWEN3_MOE | {"decoder_sparse_step": 2}, "decoder_sparse_step=2"),
        (QWEN3_MOE | {"shared_expert_intermediate_size": 64}, "shared_expert_intermediate_size=64 .*not known"),
        (GEMMA3 | {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
        (GEMMA3 | {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        (GEMMA3 | {"layer_types": ["full_attention"] + ["sliding_attention"] * 17}, "layer_types=.*Every n-th layer"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        _read(tmp_path, settings)
