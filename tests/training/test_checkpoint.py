"""Checkpoints: bit-equal resume, which ones are kept, host facts in the same commit, and clear mismatches."""

import math

from flax import struct
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import optax
import pytest

from negot_jax.training.checkpoint import Checkpoints


@struct.dataclass
class State:
    weights: dict
    optimizer: optax.OptState
    key: jax.Array


ADAM = optax.adam(0.1)


@pytest.fixture(scope="module")
def start():
    weights = {"w": jax.numpy.ones((8, 4), jax.numpy.bfloat16), "b": jax.numpy.zeros(4)}
    return State(weights, ADAM.init(weights), jax.random.split(jax.random.key(0, impl="rbg"), 2))


@jax.jit
def advance(state):
    """One noisy update: any leaf that is not restored to the bit changes what follows."""
    key = jax.vmap(jax.random.fold_in, (0, None))(state.key, 1)
    noise = jax.random.normal(key[0], (8, 4))
    gradients = jax.grad(lambda w: ((w["w"] * noise).sum() - w["b"].sum()) ** 2)(state.weights)
    updates, optimizer = ADAM.update(gradients, state.optimizer)
    return State(optax.apply_updates(state.weights, updates), optimizer, key)


def assert_bit_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def save_all(directory, state, rewards, **options):
    checkpoints = Checkpoints(directory, **options)
    for iteration, reward in enumerate(rewards):
        checkpoints.save(iteration, state, {"reward": reward}, {})
    checkpoints.wait()
    return checkpoints


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path, start):
    state = advance(start)
    first = Checkpoints(tmp_path)
    first.save(1, state, {"reward": 0.5}, {"next": 2, "seen": [1, 2]})
    first.close()

    second = Checkpoints(tmp_path)
    restored, host = second.restore(second.latest, abstract(state))
    second.close()
    assert host == {"next": 2, "seen": [1, 2]}
    assert_bit_equal(restored, state)
    assert_bit_equal(advance(restored), advance(state))


def test_the_saved_state_may_be_donated_at_once(tmp_path, start):
    state = advance(start)
    expected = jax.device_get(state.weights)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {"reward": 0.0}, {})
    zeros = jax.jit(lambda weights: jax.tree.map(jax.numpy.zeros_like, weights), donate_argnums=0)
    jax.block_until_ready(zeros(state.weights))  # writes into the donated buffers
    checkpoints.wait()
    restored, _ = checkpoints.restore(1, abstract(start))
    checkpoints.close()
    assert_bit_equal(restored.weights, jax.tree.map(jax.numpy.asarray, expected))


def test_restores_into_the_shardings_of_the_target(tmp_path, start):
    checkpoints = save_all(tmp_path, start, [0.0])
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    target = abstract(start)
    target.weights["w"] = jax.ShapeDtypeStruct((8, 4), jax.numpy.bfloat16, sharding=sharding)
    restored, _ = checkpoints.restore(0, target)
    checkpoints.close()
    assert restored.weights["w"].sharding == sharding


@pytest.mark.parametrize(
    ("rewards", "kept", "best"),
    [
        ([0.1, 0.9, 0.2, 0.3, 0.4], {1, 3, 4}, 1),
        ([0.1, 0.2, 0.3, 0.4, 0.5], {3, 4}, 4),
        ([0.1, 0.9, math.nan, 0.3, 0.2], {1, 3, 4}, 1),
    ],
)
def test_the_last_and_the_best_are_kept(tmp_path, start, rewards, kept, best):
    save_all(tmp_path, start.weights, rewards, keep=2).close()
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert (checkpoints.latest, checkpoints.best) == (4, best)
    checkpoints.close()
    assert {int(path.name) for path in tmp_path.iterdir()} == kept


def test_an_empty_directory_has_neither_latest_nor_best(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.latest is None and checkpoints.best is None
    checkpoints.close()


def test_a_save_without_the_best_metric_is_refused(tmp_path, start):
    checkpoints = Checkpoints(tmp_path, best_metric="deal_rate")
    with pytest.raises(ValueError, match=r"checkpoint 3: metrics \['reward'\] lack 'deal_rate'"):
        checkpoints.save(3, start, {"reward": 1.0}, {})
    checkpoints.close()


def test_another_tree_is_refused_by_directory_and_leaf(tmp_path, start):
    checkpoints = save_all(tmp_path, start, [0.0])

    def refusal(**changes):
        with pytest.raises(ValueError) as error:
            checkpoints.restore(0, abstract(start.replace(**changes)))
        assert str(tmp_path / "0") in str(error.value)
        return str(error.value)

    weights = start.weights
    assert "weights['b'] is float32[4] in the checkpoint and float32[5] here" in refusal(
        weights={**weights, "b": jax.numpy.zeros(5)}
    )
    assert "weights['w'] is bfloat16[8, 4] in the checkpoint and float32[8, 4] here" in refusal(
        weights={**weights, "w": jax.numpy.ones((8, 4))}
    )
    assert "weights['lora'] is no such leaf in the checkpoint" in refusal(
        weights={**weights, "lora": jax.numpy.zeros(1)}
    )
    assert "and no such leaf here" in refusal(weights={"w": weights["w"]})
    assert "state.key is key<rbg>[2] in the checkpoint and key<fry>[2] here" in refusal(
        key=jax.random.split(jax.random.key(0), 2)
    )
    checkpoints.close()
