"""Small random models of the published architectures, made and saved by `transformers`."""

import pathlib
from typing import NamedTuple

import pytest
import tokenizers

torch = pytest.importorskip("torch", reason="install '.[test]': torch and transformers are the reference")
transformers = pytest.importorskip("transformers", reason="install '.[test]': torch and transformers are the reference")

VOCAB = 101
torch.set_num_threads(1)  # Tests run side by side.

_BASE = {"vocab_size": VOCAB, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 10}
_DENSE = _BASE | {"intermediate_size": 56, "num_key_value_heads": 2}
_SPARSE = _BASE | {"moe_intermediate_size": 24, "norm_topk_prob": True, "num_key_value_heads": 1}
_GEMMA = _BASE | {"intermediate_size": 56, "num_key_value_heads": 1}
_LINEAR = {"rope_type": "linear", "factor": 8.0}
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LLAMA3 |= {"original_max_position_embeddings": 24, "rope_theta": 500.0}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 1000.0}
_IRREGULAR = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]


class Case(NamedTuple):
    family: str
    settings: dict


CASES = {
    "qwen3-tied-6-heads": Case("Qwen3", _DENSE | {"num_attention_heads": 6, "tie_word_embeddings": True}),
    "qwen3-untied-5-heads-1-kv": Case(
        "Qwen3", _DENSE | {"num_attention_heads": 5, "num_key_value_heads": 1, "rope_theta": 1e6, "head_dim": 16}
    ),
    "qwen3-moe-8": Case("Qwen3Moe", _SPARSE | {"num_experts": 8, "num_experts_per_tok": 3}),
    "qwen3-moe-128": Case(
        "Qwen3Moe", _SPARSE | {"num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": False}
    ),
    "qwen3-moe-with-dense-layers": Case(
        "Qwen3Moe",
        _SPARSE
        | {"num_experts": 6, "num_experts_per_tok": 2, "num_hidden_layers": 6, "intermediate_size": 56}
        | {"decoder_sparse_step": 2, "mlp_only_layers": [0, 3]},
    ),
    "gemma3-7-layers": Case(
        "Gemma3", _GEMMA | {"num_hidden_layers": 7, "sliding_window": 5, "query_pre_attn_scalar": 16}
    ),
    "gemma3-scaled-rope-untied": Case(
        "Gemma3",
        _GEMMA
        | {"hidden_size": 36, "num_attention_heads": 6, "num_key_value_heads": 2, "query_pre_attn_scalar": 17}
        | {"sliding_window": 9, "sliding_window_pattern": 2, "rope_scaling": _LINEAR, "tie_word_embeddings": False},
    ),
    "llama-scaled-rope": Case("Llama", _DENSE | {"rope_parameters": _LLAMA3, "tie_word_embeddings": True}),
    "mistral-window": Case("Mistral", _DENSE | {"sliding_window": 7, "head_dim": 16}),
    "qwen2-irregular-window-yarn": Case(
        "Qwen2",
        {name: value for name, value in _DENSE.items() if name != "head_dim"}
        | {"num_hidden_layers": 4, "layer_types": _IRREGULAR, "use_sliding_window": True, "sliding_window": 6}
        | {"rope_parameters": _YARN},
    ),
}

_SLOW = ("qwen3-untied-5-heads-1-kv", "qwen3-moe-128", "gemma3-7-layers")  # Another of the family is not.
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name for name in CASES]


def make(case: Case, seed: int = 0) -> "transformers.PreTrainedModel":
    """The model with random weights, its norms' scales too, at which scores spread by about 1."""
    config = "TextConfig" if case.family == "Gemma3" else "Config"
    config = getattr(transformers, case.family + config)(**case.settings, pad_token_id=None, eos_token_id=None)
    model = getattr(transformers, case.family + "ForCausalLM")(config).eval()
    randomize(model, torch.Generator().manual_seed(seed))
    return model


def randomize(model: "torch.nn.Module", generator: "torch.Generator") -> None:
    with torch.no_grad():
        for weight in model.parameters():
            normal = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                weight.copy_(normal * weight.shape[-1] ** -0.5)
            else:
                weight.copy_(0.2 * normal + ("Gemma3" not in type(model).__name__))


def save(model: "transformers.PreTrainedModel", folder: pathlib.Path, **options) -> pathlib.Path:
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder, **options)
    return folder


def with_tokenizer(name: str, tokenizer, folder: pathlib.Path) -> pathlib.Path:
    """A random checkpoint of a case, with a tokenizer that `tokenizer` writes; its vocabulary is padded, as published
    ones are."""
    size = tokenizers.Tokenizer.from_file(str(tokenizer(folder))).get_vocab_size() + 5
    case = CASES[name]
    return save(make(case._replace(settings=case.settings | {"vocab_size": size})), folder)
