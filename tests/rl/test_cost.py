"""What an iteration costs, by what is compiled and not by a clock."""

import functools

import jax
import jax.numpy as jnp
import pytest

from negot_jax.models import transformer
from negot_jax.models.presets import preset
from negot_jax.rl import rollout, scoring
from negot_jax.roofline import estimate, hlo
from tests.rl import conftest


@pytest.fixture(scope="module")
def compiled(world):
    """The rollout that `world.play` runs."""
    scenarios = rollout.sample_scenarios(jax.random.key(0), world.constrained, 8)
    return conftest._play.lower(world.program.model, world.weights, world.constrained, scenarios).compile()


def _layer(world) -> int:
    """Numbers in the keys of one layer."""
    model = world.program.model
    return 8 * 4 * model.kv_heads * model.head_dim * world.constrained.buyer.layout.columns


def test_a_step_of_decoding_writes_the_cache_in_place(compiled, world):
    decoding = [op for op in hlo.operations(compiled.as_text()) if [kind for kind, _ in op.around].count("while") >= 2]
    whole = [op for op in decoding if op.size >= _layer(world) / 2]
    assert {op.kind for op in whole} & {"dynamic-update-slice", "fusion"}
    assert not [op.text for op in whole if op.kind in ("copy", "transpose", "dynamic-slice")]


def test_a_rollout_holds_few_caches(compiled, world):
    """The two halves of the cache, and as much again while a turn is heard."""
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 4 * 2 * _layer(world)


def test_the_formula_counts_the_flops_of_a_forward_pass():
    config = preset("tiny", vocab_size=64, layers=3, width=128, mlp=512, heads=4, kv_heads=2)
    weights = jax.eval_shape(functools.partial(transformer.init, config=config), jax.random.key(0))
    B, T = 4, 64
    tokens = jax.ShapeDtypeStruct((B, T), jnp.int32)
    forward = lambda weights, tokens: transformer.forward(config, weights, tokens, tokens > 0)[0]
    counted = jax.jit(forward).lower(weights, tokens).compile().cost_analysis()["flops"]
    assert 1 <= counted / (B * T * estimate.per_token(config, T, 0.0)) < 1.1


def test_half_the_width_is_less_than_half_the_work(world):
    layout, tables = world.constrained.buyer.layout, world.constrained
    dialogue = world.play(tables, world.weights).buyer

    def cost(width):
        def loss(weights):
            scores = scoring.score_messages(world.program.model, weights, layout, dialogue, None, 1.0, width)
            return scores.log_probs.sum()

        return jax.jit(jax.grad(loss)).lower(world.weights).compile().cost_analysis()["flops"]

    full, half = cost(layout.columns), cost(layout.columns // 2)
    assert half < 0.6 * full
