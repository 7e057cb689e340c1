"""The one program: micro-batches add up, nothing recompiles, what is not finite is skipped."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from negot_jax.game import buyers
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl.algorithms import preset
from negot_jax.rl.configs import LearnerConfig, OptimizerConfig
from negot_jax.rl.train_step import NOTHING_FROZEN, Frozen, FrozenModel, Program, train_step
from negot_jax.rl.updates import Skipped, TrainState, apply_gradients


def _program(world, **changes) -> Program:
    program = world.program
    return dataclasses.replace(program, config=dataclasses.replace(program.config, **changes))


def _state(world, program) -> TrainState:
    weights = jax.tree.map(jnp.copy, world.weights)  # The step donates its state.
    return program.init_state(jax.random.key(5), weights)


def _opponent(world, name):
    """Program, tables and frozen weights."""
    if name == "buyer":
        return world.program, world.constrained, NOTHING_FROZEN
    tables = world.two_sided("constrained", message_tokens=32)
    if name == "seller against a script":
        return (
            world.seller_program((buyers.make("concession(noise=0.1)"), buyers.make("linear"))),
            tables,
            NOTHING_FROZEN,
        )
    buyer = FrozenModel(world.program.model, SamplingConfig(), shared=False)
    return world.seller_program(buyer), tables, Frozen(opponent=world.weights)


@pytest.fixture(
    scope="module",
    params=["buyer", pytest.param("seller against a script", marks=pytest.mark.slow), "seller against a model"],
)
def steps(request, world):
    """Three iterations, and every backend compilation that they caused."""
    program, tables, frozen = _opponent(world, request.param)
    state = _state(world, program)
    compiled, history = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    )
    for _ in range(3):
        state, metrics, sample = train_step(program, state, tables, frozen)
        history.append((len(compiled), jax.device_get(metrics)))
    moved = jax.tree.map(lambda new, old: bool((new != old).any()), state.weights, world.weights)
    assert any(jax.tree.leaves(moved)) and sample.state.end.shape == (program.config.scenarios,)
    return state, history


def test_nothing_compiles_after_the_first_iteration(steps):
    counts = [count for count, _ in steps[1]]
    assert counts[0] > 0
    assert counts[1:] == counts[:1] * 2


def test_metrics_are_sums_and_weights(steps):
    state, history = steps
    metrics = history[0][1]
    total, weight = metrics["reward"]
    assert weight == 16 and abs(total) <= 16
    assert metrics["sampler_gap"][0] / metrics["sampler_gap"][1] <= 1e-5
    assert metrics["loss"][1] == metrics["sampled_tokens"][0]
    assert 0 < metrics["padding_efficiency"][0] <= metrics["padding_efficiency"][1]
    assert int(state.iteration) == 3 and state.skipped == (0, 0)


@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("grpo", {"micro_batches": 4, "widths": 2}),
        pytest.param("grpo", {"micro_batches": 8}, marks=pytest.mark.slow),
        pytest.param("ppo", {"micro_batches": 8}, marks=pytest.mark.slow),
    ],
)
def test_micro_batches_and_widths_add_up(name, cuts, world):
    """However a batch is cut: the same loss, gradient and metrics, and so the same weights."""

    def step(**changes):
        program = dataclasses.replace(_program(world, **changes), algorithm=preset(name))
        return train_step(program, _state(world, program), world.constrained)[:2]

    (whole, expected), (cut, ours) = step(), step(**cuts)
    assert ours.keys() == expected.keys()
    for metric, (total, weight) in ours.items():
        assert weight == expected[metric][1], metric
        # By the mean: a loss is a sum of terms that cancel, and keeps their rounding.
        np.testing.assert_allclose(
            total / max(weight, 1), expected[metric][0] / max(weight, 1), rtol=1e-4, atol=1e-5, err_msg=metric
        )
    # Adam divides each gradient by its size, so where there is almost none rounding is what is left of it.
    for one, other in zip(jax.tree.leaves(whole.weights), jax.tree.leaves(cut.weights), strict=True):
        assert np.quantile(np.abs(one - other), 0.99) < 1e-5


def test_the_update_is_that_of_one_whole_gradient():
    """Against optax on the gradient of a mean, written out, over micro-batches of unequal weight."""
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(12, 3)).astype(np.float32), rng.random(12) < 0.6
    weights = {"w": jnp.array([0.3, -0.2, 0.5])}
    optimizer = optax.sgd(0.1)

    def loss(weights, batch):
        x, mask = batch
        values = jnp.square(x @ weights["w"] - 1)
        return (jnp.where(mask, values, 0).sum(), mask.sum(dtype=jnp.float32)), {}

    whole = jax.grad(lambda w: jnp.square(x[mask] @ w["w"] - 1).mean())(weights)["w"]
    for parts in (1, 4):
        carry = (weights, optimizer.init(weights), Skipped(jnp.int32(2), jnp.int32(2)))
        (updated, _, skipped), metrics = apply_gradients(optimizer, loss, carry, (x, mask), parts)
        np.testing.assert_allclose(updated["w"], weights["w"] - 0.1 * whole, rtol=1e-5)
        np.testing.assert_allclose(metrics["grad_norm"][0], jnp.linalg.norm(whole), rtol=1e-5)
        assert skipped == (2, 0)


def test_an_update_that_is_not_finite_is_skipped_and_counted():
    optimizer = optax.adam(0.1)
    weights = {"w": jnp.ones(2)}
    carry = (weights, optimizer.init(weights), Skipped(jnp.int32(2), jnp.int32(1)))

    def loss(weights, batch):
        return ((weights["w"] * batch[:, None]).sum(), jnp.float32(2)), {}

    (updated, opt_state, skipped), _ = apply_gradients(optimizer, loss, carry, jnp.array([1.0, jnp.nan]), 1)
    assert skipped == (3, 2)
    np.testing.assert_array_equal(updated["w"], weights["w"])
    jax.tree.map(np.testing.assert_array_equal, opt_state, carry[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 0}, "learner.group=0"),
        ({"scenarios": 3, "minibatches": 5}, "do not divide"),
        ({"epochs": 0}, "learner.epochs=0"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LearnerConfig(**changes)


def test_rows_that_a_mesh_must_cut():
    config = LearnerConfig(scenarios=16, group=8, minibatches=2, micro_batches=4)
    assert list(config.rows().values()) == [16, 16]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_warm_up_and_decay(schedule):
    config = OptimizerConfig(learning_rate=1.0, schedule=schedule, warmup=4, max_grad_norm=1e9, beta1=0.0, beta2=0.0)
    optimizer = config.make(12)
    state = optimizer.init(jnp.zeros(()))
    rates = []
    for _ in range(12):
        update, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))  # Adam's first moment over its second: the bare rate.
    np.testing.assert_allclose(rates[:5], [0, 0.25, 0.5, 0.75, 1.0], atol=1e-4)
    assert rates[-1] == pytest.approx(1.0, abs=1e-4) if schedule == "constant" else rates[-1] < 0.2
    np.testing.assert_allclose(rates, [config.rate(12)(made) for made in range(12)], atol=1e-4)


def test_a_skipped_update_leaves_the_learning_rate(world):
    state = world.program.init_state(jax.random.key(0), world.weights)
    state = state.replace(iteration=jnp.int32(5), skipped=Skipped(jnp.int32(2), jnp.int32(0)))
    assert world.program.learning_rate(state) == pytest.approx(3e-4)  # Of a warmup of 10 updates to 1e-3.


def test_a_scripted_seller_reads_no_prompts(world):
    with pytest.raises(ValueError, match="seller.model='scripted'.*'own'"):
        world.seller_program((buyers.make("linear"),)).score(world.weights, world.constrained, None)
