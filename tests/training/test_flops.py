"""The formula against published sizes, and which devices have a share of their peak."""

import dataclasses
import types

import jax
import pytest

from negot_jax.models import presets, transformer
from negot_jax.models.presets import LoraConfig
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.configs import LearnerConfig, OptimizerConfig
from negot_jax.rl.train_step import Program
from negot_jax.training import flops


@pytest.mark.parametrize("name", ["qwen3-0.6b", "qwen3-8b", "qwen3-30b-a3b", "gemma3-27b"])
def test_matrices_count_two_a_parameter_that_is_active(name):
    """Without attention, every token scored: all parameters but norms, and of experts those that are active."""
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
    assert flops.per_token(config, columns=0, scored=1.0) == pytest.approx(2 * active, rel=1e-6)


def test_attention_counts_what_is_seen():
    config = presets.preset("gemma3-1b")
    more = flops.per_token(config, 2000, 0) - flops.per_token(config, 1000, 0)
    assert more == 4 * 1000 * 4 * config.heads * config.head_dim  # Of 26 layers, 4 are global.


def _program(model, **algorithm):
    return Program(
        dataclasses.replace(model, vocab_size=512),
        LearnerConfig(scenarios=2, group=4, epochs=2),
        AlgorithmConfig(**algorithm),
        SamplingConfig(),
        OptimizerConfig(),
        iterations=1,
    )


def test_an_iteration_counts_every_pass():
    tiny = presets.preset("tiny")
    adapted = dataclasses.replace(tiny, lora=LoraConfig(rank=2))
    once = 800 * flops.per_token(dataclasses.replace(tiny, vocab_size=512), 50, 0.25)
    count = lambda program: flops.of_iteration(program, 800, 200) / once
    assert count(_program(tiny)) == pytest.approx(1 + 2 * 3)
    assert count(_program(adapted)) == pytest.approx(1 + 2 * 2)
    assert count(_program(tiny, kl="k3", kl_coefficient=0.1, importance_cap=2.0)) == pytest.approx(3 + 2 * 3)


def test_the_share_of_the_peak_is_left_out_where_that_is_not_known(monkeypatch):
    program = _program(presets.preset("tiny"))
    assert flops.speed(program, 800, 200, 2.0) == {"perf/tokens_per_second": 400}
    monkeypatch.setattr(flops.jax, "devices", lambda: [types.SimpleNamespace(device_kind="TPU v5p")])
    known = flops.speed(program, 800, 200, 2.0)
    share = flops.of_iteration(program, 800, 200) / 2.0 / 459e12 / jax.device_count()
    assert known["perf/mfu"] == pytest.approx(share)
