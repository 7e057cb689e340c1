"""Which model a run takes: a checkpoint's, a preset's, and what of it may be changed."""

import pytest

from negot_jax.models import hf_checkpoint, hf_config
from negot_jax.models.choice import ModelChoice
from negot_jax.models.presets import LoraConfig, preset
from tests.models import published


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(published.save(published.make(published.CASES["gemma3-7-layers"]), tmp_path_factory.mktemp("model")))


def test_a_preset_of_other_sizes():
    assert ModelChoice().config() == preset("tiny")
    config = ModelChoice(preset="qwen3-4b", layers=2, width=64, lora=LoraConfig(rank=4)).config()
    assert (config.layers, config.width, config.lora.rank, config.vocab_size) == (2, 64, 4, None)
    assert config.heads == preset("qwen3-4b").heads


def test_a_checkpoint_says_what_it_is(folder):
    published_config = hf_config.read(folder)
    assert ModelChoice(preset="qwen3-4b", checkpoint=folder).config() == published_config
    config = ModelChoice(checkpoint=folder, dtype="bfloat16", remat="full", width=published_config.width).config()
    assert (config.dtype, config.remat, config.sandwich_norm) == ("bfloat16", "full", True)


def test_of_a_checkpoint_the_first_layers_can_be_taken(folder, tmp_path):
    config = ModelChoice(checkpoint=folder, layers=6).config()
    weights, whole = hf_checkpoint.load(folder, config), hf_checkpoint.load(folder, hf_config.read(folder))
    query = weights["blocks"]["attention"]["query"].value
    assert query.shape[0] == 6 and (query == whole["blocks"]["attention"]["query"].value[:6]).all()
    hf_checkpoint.save(tmp_path / "cut", config, weights, folder)
    assert hf_config.read(tmp_path / "cut") == config
    assert published.transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cut").config.num_hidden_layers == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 48}, r"model.width=48, but the checkpoint .* has 40. Leave it out"),
        ({"layers": 8}, r"model.layers=8, but the checkpoint .* has 7"),
        ({"checkpoint": "/nowhere"}, "/nowhere holds no checkpoint"),
    ],
)
def test_what_is_not_the_checkpoints_is_refused(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        ModelChoice(**{"checkpoint": folder} | changes).config()


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="did you mean 'qwen3-4b'"):
        ModelChoice(preset="qwen-4b").config()
