"""Presets: a size that cannot be built is refused with the reason."""

import functools

import jax
import pytest

from negot_jax.models import transformer
from negot_jax.models.presets import PRESETS, LoraConfig, ModelConfig, preset

# As counted by the published checkpoints. From gemma3-4b on these have a vision tower and its projector as well.
PARAMETERS = {
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-4b-instruct-2507": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-30b-a3b-instruct-2507": 30_532_122_624,
    "gemma3-270m": 268_098_176,
    "gemma3-1b": 999_885_952,
    "gemma3-4b": 4_300_079_472 - 419_816_304,
    "gemma3-12b": 12_187_325_040 - 421_290_864,
    "gemma3-27b": 27_432_406_640 - 423_060_336,
}


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "tiny"])
def test_a_published_model_has_as_many_parameters(name):
    weights = jax.eval_shape(functools.partial(transformer.init, config=preset(name)), jax.random.key(0))
    assert transformer.parameter_count(weights) == PARAMETERS[name]


def test_a_preset_is_its_entry_with_the_overrides():
    assert preset("tiny") == PRESETS["tiny"]
    config = preset("tiny", layers=5, dtype="bfloat16")
    assert (config.layers, config.dtype, config.width) == (5, "bfloat16", PRESETS["tiny"].width)
    assert hash(config) == hash(preset("tiny", layers=5, dtype="bfloat16"))


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="model preset 'tinny' is unknown; did you mean 'tiny'.*Known: .*tiny"):
        preset("tinny")


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_alpha_is_refused(alpha):
    with pytest.raises(ValueError, match=f"model.lora.alpha={alpha} must be a positive number"):
        LoraConfig(alpha=alpha)


_MIXTURE = {"experts": 4, "active_experts": 2}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"heads": 4, "kv_heads": 3}, r"model\.kv_heads=3 does not divide model\.heads=4.*divisor of 4"),
        ({"head_dim": 15}, r"model\.head_dim=15 is odd"),
        ({"norm_eps": -1.0}, r"model\.norm_eps=-1\.0 must be above 0"),
        ({"query_scalar": 0.0}, r"model\.query_scalar=0\.0 must be above 0"),
        ({"local_layers": ()}, r"model\.local_layers=\(\) is empty"),
        ({"dtype": "float16"}, r"model\.dtype='float16'.*'bfloat16'"),
        ({"matmul": "float16"}, r"model\.matmul='float16'.*'bfloat16'"),
        ({"remat": "all"}, r"model\.remat='all'.*'full'"),
        ({"activation": "relu"}, r"model\.activation='relu'.*'gelu'"),
        ({"window": 4}, r"model\.window=4: this model has no local layers.*Leave it out"),
        ({"local_layers": (True, False)}, r"model\.local_layers=\(True, False\) need model\.window"),
        ({"experts": 4}, r"model\.active_experts=0, model\.experts=4.*dense"),
        ({"experts": 4, "active_experts": 5}, r"model\.active_experts=5"),
        (_MIXTURE | {"activation": "gelu"}, r"model\.experts=.* activation 'gelu': experts apply SiLU alone"),
        ({"dense_mlp": 8}, r"model\.dense_layers=\(False,\), model\.dense_mlp=8.*Set both"),
        (_MIXTURE | {"dense_layers": (True, False)}, r"model\.dense_mlp=None.*Set both"),
        ({"dense_layers": (True,), "dense_mlp": 8}, r"model\.dense_layers=\(True,\).*Set both"),
        (_MIXTURE | {"dense_layers": (True,), "dense_mlp": 8}, r"model\.layers=2 keeps only .*Take more"),
        (
            _MIXTURE | {"dense_layers": (True, False), "dense_mlp": 8, "lora": LoraConfig(rank=2)},
            r"model\.lora\.targets=.*Use query, key, value and out",
        ),
        *(
            ({name: 0}, rf"model\.{name}=0 must be at least 1")
            for name in ("vocab_size", "layers", "width", "heads", "kv_heads", "head_dim", "mlp", "window")
        ),
    ],
)
def test_an_impossible_size_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**fields)
