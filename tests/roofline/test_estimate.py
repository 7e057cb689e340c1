"""FLOPs by formula against published model sizes."""

import dataclasses

import jax
import pytest

from negot_jax.models import presets, transformer
from negot_jax.models.presets import LoraConfig
from negot_jax.roofline import estimate


@pytest.mark.parametrize("name", ["qwen3-0.6b", "qwen3-8b", "qwen3-30b-a3b", "gemma3-27b"])
def test_matrices_count_two_a_parameter_that_is_active(name):
    """Without attention, and with logits for every token: all parameters but norms and inactive experts."""
    config = presets.preset(name)
    weights = jax.eval_shape(lambda key: transformer.init(key, config), jax.random.key(0))
    matrices = {
        jax.tree_util.keystr(path): leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
        if leaf.ndim > 2 or "ends" in jax.tree_util.keystr(path) and leaf.ndim == 2
    }
    idle = sum(size for path, size in matrices.items() if "mlp" in path and "router" not in path)
    idle *= 1 - config.active_experts / config.experts if config.experts else 0
    looked_up = 0 if config.tied_embedding else config.vocab_size * config.width
    norms = sum(size for path, size in matrices.items() if "norm" in path)
    active = sum(matrices.values()) - idle - looked_up - norms
    assert estimate.per_token(config, columns=0, scored=1.0) == pytest.approx(2 * active, rel=1e-6)


def test_attention_counts_what_is_seen():
    config = presets.preset("gemma3-1b")
    more = estimate.per_token(config, 2000, 0) - estimate.per_token(config, 1000, 0)
    assert more == 4 * 1000 * 4 * config.heads * config.head_dim  # Of 26 layers, 4 are global.


def test_an_iteration_counts_every_pass():
    tiny = dataclasses.replace(presets.preset("tiny"), vocab_size=512)
    adapted = dataclasses.replace(tiny, lora=LoraConfig(rank=2))
    once = 800 * estimate.per_token(tiny, 50, 0.25)
    count = lambda model, rescored: estimate.per_iteration(estimate.Workload(model, 2, 4, 2, rescored), 800, 200) / once
    assert count(tiny, 0) == pytest.approx(1 + 2 * 3)
    assert count(adapted, 0) == pytest.approx(1 + 2 * 2)
    assert count(tiny, 2) == pytest.approx(3 + 2 * 3)
    update = estimate.per_update(estimate.Workload(tiny, 2, 4, 2, 0), 800, 200) / once
    assert update == pytest.approx(2 * 3)
