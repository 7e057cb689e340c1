"""Checkpoints that `transformers` wrote: read, written back, and read by it again."""

import jax
import numpy as np
import pytest

from negot_jax.models import hf_checkpoint, hf_config
from tests.models import published
from tests.models.published import CASES, torch, transformers


def _assert_loads_as(folder, reference):
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert type(loaded) is type(reference) and loaded.dtype == reference.dtype
    got, expected = loaded.state_dict(), reference.state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("name", published.NAMES)
def test_load_save_load(name, tmp_path, monkeypatch):
    reference = published.make(CASES[name]).to(torch.bfloat16)
    folder = published.save(reference, tmp_path / "theirs", max_shard_size="40KB")
    assert (folder / "model.safetensors.index.json").exists()
    config = hf_config.read(folder)
    weights = hf_checkpoint.load(folder, config)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(weights)} == {config.dtype} == {"bfloat16"}
    monkeypatch.setattr(hf_checkpoint, "_SHARD_BYTES", 40_000)
    hf_checkpoint.save(tmp_path / "ours", config, weights, folder)
    assert hf_config.read(tmp_path / "ours") == config
    again = hf_checkpoint.load(tmp_path / "ours", config)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(weights), jax.tree.leaves(again), strict=True))
    _assert_loads_as(tmp_path / "ours", reference)


def test_of_a_multimodal_gemma_the_language_model_is_read_and_written(tmp_path):
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CASES["gemma3-7-layers"].settings
    config = transformers.Gemma3Config(text_config=text, vision_config=vision | {"image_size": 28})
    whole = transformers.Gemma3ForConditionalGeneration(config)
    published.randomize(whole, torch.Generator().manual_seed(0))
    folder = published.save(whole, tmp_path / "whole")
    alone = published.make(CASES["gemma3-7-layers"])
    alone.model.load_state_dict(whole.model.language_model.state_dict())
    config = hf_config.read(folder)
    weights = hf_checkpoint.load(folder, config)
    expected = hf_checkpoint.load(published.save(alone, tmp_path / "alone"), config)
    for a, b in zip(jax.tree.leaves(weights), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    hf_checkpoint.save(tmp_path / "ours", config, weights, folder)
    _assert_loads_as(tmp_path / "ours", alone)
