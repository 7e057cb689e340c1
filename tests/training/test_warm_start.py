"""The warm start: whom it clones, how it resumes, what it refuses. That they speak is tested with the rollouts."""

import dataclasses
import signal

import jax
import numpy as np
import pytest

from negot_jax import catalog as catalogs
from negot_jax.catalog import synthetic
from negot_jax.game import bargaining, buyers
from negot_jax.game.types import BUYER, GameParams
from negot_jax.models import transformer
from negot_jax.rl.players import scripted_buyer
from negot_jax.training import checkpoint, preemption, warm_start
from negot_jax.training.checkpoint import Folder
from negot_jax.training.loop import NotFiniteError
from negot_jax.training.warm_start import WarmStartConfig
from tests.rl import small


def test_rows_follow_the_policies_in_turn():
    specs = ("constant(share=0.5)", "linear(start=0.4, end=1.0)", "constant(share=0.7)")
    params = GameParams(products=catalogs.products(synthetic.load(size=7)))
    scenarios = jax.vmap(lambda key: bargaining.draw(key, params.products))(jax.random.split(jax.random.key(0), 7))
    state = jax.vmap(lambda scenario: bargaining.reset_to(scenario, params)[1])(scenarios)
    action = scripted_buyer(tuple(map(buyers.make, specs)), params.turns, jax.random.key(1)).act(state)
    for row in range(7):
        observation = bargaining.observe(jax.tree.map(lambda x, row=row: x[row], state), BUYER)
        expected = buyers.make(specs[row % 3]).act(jax.random.key(0), observation, params.turns)
        assert action.price[row] == expected.price
        assert action.kind[row] == expected.kind
    assert len(np.unique(action.price)) > 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 10, "micro_batches": 3}, "do not divide"),
        ({"buyers": ()}, "warm_start.buyers is empty.* or set warm_start.steps=0"),
        ({"buyers": ("liner",)}, "did you mean 'linear'"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        WarmStartConfig(**changes)
    WarmStartConfig(**changes | {"steps": 0, "buyers": ()})  # None of it is read.


@pytest.fixture(scope="module")
def clone():
    """Clones the buyer of a small world. Returns its weights and the iterations that were stepped through."""
    products = small.catalog()
    words = small.tokenizer(products)
    tables, model = small.tables(products, words), small.program(words.vocab_size).model
    config, step = dataclasses.replace(small.CLONING, steps=5), warm_start.clone_step

    def cloned(folder=None, stop_at=None, scale=1.0):
        stepped = []

        def noting(config, model, role, state, *rest):
            stepped.append(int(state.iteration))
            if stepped[-1] == stop_at:
                signal.raise_signal(signal.SIGINT)
            return step(config, model, role, state, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(warm_start, "clone_step", noting)
            weights = jax.tree.map(lambda x: scale * x, transformer.init(jax.random.key(0), model))
            return warm_start.warm_start(config, model, jax.random.key(1), weights, tables, BUYER, folder), stepped

    return cloned


def test_an_interrupted_warm_start_resumes_bit_for_bit(clone, tmp_path):
    whole, stepped = clone()
    assert stepped == [0, 1, 2, 3, 4]
    folder = Folder(tmp_path / "warm_start", "a run")
    for stop_at in (0, 1, 3):
        with pytest.raises(preemption.Preempted):
            clone(folder, stop_at)
    assert checkpoint.survey(tmp_path / "warm_start.partial") == ([4], {})
    resumed, stepped = clone(folder)
    assert stepped == [4]
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["warm_start"]
    kept, stepped = clone(folder)
    assert stepped == []
    jax.tree.map(np.testing.assert_array_equal, kept, whole)


def test_a_warm_start_that_diverges_is_an_error_and_is_not_kept(clone, tmp_path):
    with pytest.raises(NotFiniteError, match="warm start, step 4: the last 5 updates.*warm_start.optimizer.learning"):
        clone(Folder(tmp_path / "warm_start", "a run"), scale=1e30)
    assert not (tmp_path / "warm_start").exists()


@pytest.mark.parametrize("cause", ["damaged", "another run"])
def test_what_cannot_be_resumed_begins_again(clone, tmp_path, capsys, cause):
    with pytest.raises(preemption.Preempted):
        clone(Folder(tmp_path / "warm_start", "another run" if cause == "another run" else "a run"), 2)
    if cause == "damaged":
        (tmp_path / "warm_start.partial/3/state/manifest.ocdbt").unlink()
    _, stepped = clone(Folder(tmp_path / "warm_start", "a run"))
    assert stepped == [0, 1, 2, 3, 4]
    assert f"{tmp_path}/warm_start.partial is damaged, or belongs to another run" in capsys.readouterr().out
    assert checkpoint.damage(tmp_path / "warm_start") is None and not (tmp_path / "warm_start.partial").exists()
