"""Presets: a size that cannot be built is refused with the reason."""

import pytest

from negot_jax.models.presets import PRESETS, ModelConfig, preset


def test_a_preset_is_its_entry_with_the_overrides():
    assert preset("tiny") == PRESETS["tiny"]
    config = preset("tiny", layers=5, dtype="bfloat16")
    assert (config.layers, config.dtype, config.width) == (5, "bfloat16", PRESETS["tiny"].width)
    assert hash(config) == hash(preset("tiny", layers=5, dtype="bfloat16"))


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match="model preset 'tinny' is unknown; did you mean 'tiny'.*Known: .*tiny"):
        preset("tinny")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"heads": 4, "kv_heads": 3}, r"model\.kv_heads=3 does not divide model\.heads=4.*divisor of 4"),
        ({"head_dim": 15}, r"model\.head_dim=15 is odd"),
        ({"dtype": "float16"}, r"model\.dtype='float16'.*'bfloat16'"),
        *(
            ({name: 0}, rf"model\.{name}=0 must be at least 1")
            for name in ("vocab_size", "layers", "width", "heads", "kv_heads", "head_dim", "mlp")
        ),
    ],
)
def test_an_impossible_size_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**fields)
