"""`config.json`: the published forms give the presets, and what is not supported is named."""

import dataclasses
import json

import pytest

from negot_jax.models import hf_config
from negot_jax.models.presets import RopeConfig, preset

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


LLAMA = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "rope_theta": 500000.0,
}
# Names, versions, sampling, training and kernels, as tools leave them; and settings at the value that changes nothing.
HARMLESS = {
    "_attn_implementation_autoset": True,
    "_name_or_path": "meta-llama/Llama-3.2-1B-Instruct",
    "attention_dropout": 0.1,
    "attn_implementation": "flash_attention_2",
    "auto_map": {"AutoModelForCausalLM": "modeling_x.X"},
    "bos_token_id": 1,
    "id2label": {"0": "LABEL_0"},
    "logits_scaling": 1.0,
    "max_length": 20,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "num_beam_groups": 1,
    "original_max_position_embeddings": 4096,
    "output_hidden_states": True,
    "pretraining_tp": 1,
    "resid_pdrop": 0.1,
    "return_dict": True,
    "rope_interleaved": False,
    "temperature": 0.6,
    "tokenizer_class": "Qwen2Tokenizer",
    "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
    "unsloth_fixed": True,
    "unsloth_version": "2025.9.7",
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
        ({"torch_dtype": "float16"}, {"dtype": "float32"}),
        ({"torch_dtype": "torch.bfloat16"}, {}),
        ({"sliding_window_pattern": 3, "layer_types": None}, {"local_layers": (True, True, False)}),
        ({"hidden_act": "gelu"}, {}),
        ({"layer_types": ["full_attention"] * 18}, {"local_layers": (False,), "window": None, "local_rope": None}),
        ({"layer_types": ["sliding_attention"] * 18}, {"local_layers": (True,)}),
        ({"layer_types": ["full_attention"] + ["sliding_attention"] * 17}, {"local_layers": (False,) + (True,) * 17}),
        ({"rope_scaling": {"type": "linear", "factor": 4}}, {"rope": RopeConfig(1e6, "linear", 4.0)}),
    ],
)
def test_other_settings(tmp_path, changes, fields):
    assert _read(tmp_path, GEMMA3 | changes) == dataclasses.replace(preset("gemma3-270m"), **fields)


@pytest.mark.parametrize(
    "settings, changes, fields",
    [
        (QWEN3, {"use_sliding_window": True, "sliding_window": None}, {}),
        (QWEN3, {"use_sliding_window": False, "sliding_window": 0}, {}),
        (QWEN3, {"layer_types": ["full_attention"] * 28}, {}),
        (QWEN3_MOE, {"use_qk_norm": True, "qkv_bias": False, "shared_expert_intermediate_size": 0}, {}),
        (QWEN3_MOE, {"num_experts": None, "num_local_experts": 128, "layer_types": ["full_attention"] * 48}, {}),
        (QWEN3_MOE, {"use_sliding_window": True, "sliding_window": 64}, {"window": 64, "local_layers": (True,)}),
        (QWEN3_MOE, {"use_sliding_window": True, "sliding_window": None}, {}),
    ],
)
def test_other_settings_of_qwen(tmp_path, settings, changes, fields):
    assert _read(tmp_path, settings | changes) == dataclasses.replace(_read(tmp_path, settings), **fields)


def test_the_outer_settings_of_a_multimodal_model(tmp_path):
    """transformers 5 ties by the outer one, and writes an inner default beside it."""
    text = GEMMA3_27B["text_config"] | {"tie_word_embeddings": True, "dtype": None}
    config = _read(tmp_path, GEMMA3_27B | {"text_config": text, "dtype": "float32", "tie_word_embeddings": False})
    assert not config.tied_embedding and config.dtype == "float32"
    assert not hf_config.text_settings(tmp_path, 2, "float32")["tie_word_embeddings"]


@pytest.mark.parametrize("name", HARMLESS)
def test_what_changes_no_number_is_passed_over(tmp_path, name):
    assert _read(tmp_path, LLAMA | {name: HARMLESS[name]}) == _read(tmp_path, LLAMA)


def test_rope_type_goes_before_its_older_name(tmp_path):
    both = {"rope_type": "linear", "type": "yarn", "factor": 2.0}
    assert _read(tmp_path, LLAMA | {"rope_scaling": both}).rope == RopeConfig(500000.0, "linear", 2.0)


@pytest.mark.parametrize("settings", [QWEN3, QWEN3_MOE])
@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "num_hidden_layers", "num_key_value_heads"])
def test_what_is_left_out_is_named(tmp_path, settings, name):
    with pytest.raises(ValueError, match=f"config.json lacks {name}"):
        _read(tmp_path, settings | {name: None})


@pytest.mark.parametrize(
    "settings, message",
    [
        (QWEN3 | {"model_type": "phi3"}, "model_type='phi3' is not supported. Known: llama, .*gemma3"),
        (QWEN3 | {"model_type": ["qwen3"]}, r"model_type=\['qwen3'\]"),
        (QWEN3 | {"attention_bias": True}, "attention_bias=True is not supported"),
        (LLAMA | {"mlp_bias": True}, "mlp_bias=True is not supported"),
        (LLAMA | {"sliding_window": 4096}, "sliding_window=4096 is not supported"),
        (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        (LLAMA | {"logit_scale": 0.25}, "logit_scale=0.25"),
        (LLAMA | {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
        (LLAMA | {"layer_types": ["sliding_attention"] * 2}, "layer_types="),
        (QWEN3 | {"layer_types": ["sliding_attention"] * 28}, "layer_types=.*use_sliding_window=false"),
        (QWEN3 | {"layer_types": ["linear_attention"] * 28}, "layer_types=.*28 layers"),
        (QWEN3 | {"hidden_act": "gelu"}, "hidden_act='gelu'.*'silu'"),
        (QWEN3 | {"torch_dtype": "float8_e4m3fn"}, "dtype='float8_e4m3fn'.*Convert"),
        (QWEN3 | {"quantization_config": {"bits": 4}}, "quantization_config={'bits': 4}"),
        (
            QWEN3 | {"rope_scaling": {"type": "dynamic", "factor": 2}},
            "rope_scaling.rope_type='dynamic'.*Known: default",
        ),
        (QWEN3 | {"rope_scaling": {"rope_type": "longrope", "type": "linear"}}, "rope_type='longrope'"),
        (QWEN3 | {"rope_scaling": {"rope_type": "linear", "factor": "2"}}, "rope_scaling.factor='2'.*positive number"),
        (QWEN3 | {"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling lacks factor"),
        (QWEN3 | {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "truncate": 0}}, "rope_scaling.truncate=0"),
        (QWEN3 | {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "mscale": 2}}, "rope_scaling.mscale=2"),
        (QWEN3 | {"rope_parameters": {"partial_rotary_factor": 0.5}}, "rope_parameters.partial_rotary_factor=0.5"),
        (QWEN3 | {"vocab_size": "151936"}, "vocab_size='151936'.*whole number"),
        (QWEN3 | {"rms_norm_eps": "1e-6"}, "rms_norm_eps='1e-6'.*positive number"),
        (QWEN3 | {"tie_word_embeddings": "true"}, "tie_word_embeddings='true'.*true or false"),
        (QWEN3 | {"num_key_value_heads": 5}, "kv_heads=5 does not divide"),
        (QWEN3_MOE | {"mlp_only_layers": 3}, "mlp_only_layers=3"),
        (QWEN3_MOE | {"num_experts": None}, "lacks num_experts"),
        (QWEN3_MOE | {"num_local_experts": 64}, "num_local_experts=64 .*num_experts=128"),
        (QWEN3_MOE | {"layer_types": ["sliding_attention"] * 48}, "layer_types=.*full_attention"),
        (QWEN3_MOE | {"decoder_sparse_step": 49}, "decoder_sparse_step=49"),
        (QWEN3_MOE | {"shared_expert_intermediate_size": 64}, "shared_expert_intermediate_size=64"),
        (GEMMA3 | {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
        (GEMMA3 | {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        (GEMMA3 | {"model_type": "gemma3"}, "needs text_config"),
        (GEMMA3_27B | {"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=f"config.json.*{message}"):
        _read(tmp_path, settings)
