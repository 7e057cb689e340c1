"""What is one entry in a table needs no more: sellers through rollouts, training and report; CONTRIBUTING's recipes."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax import catalog as catalogs
from negot_jax.catalog import synthetic
from negot_jax.evaluation import recording, report, transcripts
from negot_jax.evaluation.arena import Arena
from negot_jax.evaluation.episodes import TRAINED, Row, Rules
from negot_jax.evaluation.tables import Settings, TrainedRun
from negot_jax.game import bargaining, play, rewards, sellers
from negot_jax.game.buyers import Constant, Linear
from negot_jax.game.personas import Persona
from negot_jax.game.seller import StochasticType
from negot_jax.game.sellers import SELLERS, Seller
from negot_jax.game.types import NONE, SELLER, Action, GameParams, Kind
from negot_jax.language import tokenizer as tokens
from negot_jax.language.dialect import Own
from negot_jax.models import transformer
from negot_jax.rl import players, rollout
from negot_jax.rl.advantages import ADVANTAGES
from negot_jax.rl.tables import build_tables
from negot_jax.rl.train_step import NOTHING_FROZEN, Program, train_step
from negot_jax.solvers import best_response
from tests import tiny_run


@dataclasses.dataclass(frozen=True)
class Stubborn(Seller):
    """Repeats the list price, with an empty hidden type, no margin and no solver."""

    def act(self, key, hidden, obs, turns):
        assert hidden == ()
        return Action(kind=jnp.int32(Kind.OFFER), price=obs.price, acts=jnp.int32(0))


RECIPES = re.findall(r"```python\n(.*?)```", (tiny_run.ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
NAMES = [*SELLERS, "stubborn", "halver"]
# One of each class at least, and our own.
QUICK = ("floor", "linear", "insulting", "persuadable", "stubborn", "halver")
PLAYED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.fixture(scope="module", autouse=True)
def own_entries():
    """An own seller, and all of CONTRIBUTING's recipes as they are printed; the tables are put back afterwards."""
    kept = [(table, dict(table)) for table in (SELLERS, ADVANTAGES, rewards.REWARDS)]
    SELLERS["stubborn"] = Stubborn(persona=Persona("stubborn", "You never change your price."))
    for recipe in RECIPES:
        exec(recipe, {"__name__": "recipe"})
    yield
    for table, entries in kept:
        table.clear()
        table.update(entries)


@pytest.fixture(scope="module")
def world():
    """A configuration, a catalog, a tokenizer and the grammar's tables."""
    config = tiny_run.config(language__message_tokens=64, evaluation__best_response=True)
    catalog = catalogs.normalize(synthetic.load(size=12))
    tokenizer = tokens.train([*catalog.titles, *catalog.descriptions], 450)
    return config, catalog, tokenizer, build_tables(catalog, Own(tokenizer), config.game, config.language).grammar


@pytest.fixture(scope="module")
def build(world):
    """The tables of some fields of the game."""
    config, catalog, tokenizer, grammar = world

    def build(**fields):
        game = dataclasses.replace(config.game, **fields)
        return build_tables(catalog, Own(tokenizer), game, config.language, token_grammar=grammar)

    return build


@jax.jit
def _scripted(tables):
    """Eight episodes, four against each of two buyers, kept as the buyer reads them."""
    buyer = players.scripted_buyer((Linear(), Constant(0.2)), tables.params.turns, jax.random.key(1), True)
    scenarios = rollout.sample_scenarios(jax.random.key(0), tables, 4)
    return rollout.readable(
        rollout.rollout(jax.random.key(2), tables, scenarios, 2, buyer, players.scripted_seller(tables))
    )


@pytest.mark.parametrize("name", PLAYED)
def test_every_seller_speaks_and_is_written_out(name, world, build):
    _, catalog, tokenizer, _ = world
    tables = build(seller=name)
    trajectory = _scripted(tables)
    assert (trajectory.state.interventions == 0).all()
    common = {"buyer": Row("scripted", "two"), "seller": name}
    written = recording.record(jax.device_get(trajectory), tables, catalog, tokenizer, common)
    assert all(isinstance(fact, str) for episode in written for fact in episode.hidden.values())
    text = transcripts.markdown(written)
    persona = SELLERS[name].persona
    said = [line for variants in (*persona.talk.values(), *persona.hints.values()) for line in variants]
    assert any(" ".join(transcripts.escape(line)) in text for line in said)


@pytest.mark.parametrize("name", PLAYED)
def test_no_seller_says_more_than_its_highest_price(name, world):
    """To a buyer that only listens, on products of mutual and conflicting interest."""
    catalog = world[1]
    products = catalogs.products(catalog)
    products = products.replace(cost=products.cost.at[0].set(2 * products.price[0]))
    scenarios = bargaining.scenarios(products, np.arange(len(catalog)), jax.random.key(0))
    states, _ = play.play(jax.random.key(0), Constant(0.0), SELLERS[name], scenarios, GameParams(products, 3, "none"))
    highest = SELLERS[name].highest_price(np.asarray(products.price), np.asarray(products.cost))
    assert NONE < int(states.prices[:, :, SELLER].max()) <= highest


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_solver_is_known_beforehand(name, world):
    prior = catalogs.products(world[1])
    reason = best_response.unsupported(SELLERS[name], prior)
    unsolved = name in ("stubborn", "halver") or SELLERS[name].hears
    assert f"{SELLERS[name]} has no solver" in reason if unsolved else reason is None


@pytest.mark.slow
def test_a_seller_of_ones_own_is_trained_against_and_reported(world, build, tmp_path):
    """With the recipes' advantage and reward."""
    config, catalog, tokenizer, _ = world
    tables = build(seller="stubborn", reward="impatient")
    model = dataclasses.replace(config.model.config(), vocab_size=tokenizer.vocab_size)
    algorithm = dataclasses.replace(config.algorithm, advantage="leave_one_out")
    program = Program(model, config.learner, algorithm, config.sampling, config.optimizer, iterations=1)
    weights = transformer.init(jax.random.key(0), model)
    state = program.init_state(jax.random.key(1), jax.tree.map(jnp.copy, weights))
    state, metrics, _ = train_step(program, state, tables)
    assert np.isfinite(metrics["reward"]).all() and metrics["skipped_updates"][0] == 0
    terms = dataclasses.replace(config.evaluation, buyers=("linear",))
    arena = Arena(program, NOTHING_FROZEN, terms, tables, tables, tables.params.products)
    assert "no solver" in arena.unsolvable()
    played = arena.evaluate({TRAINED: state.weights}, jax.random.key(0))
    assert played.solution is None and {row.kind for row in played.trajectories} == {"trained", "scripted", "tuned"}
    facts = ("generated", len(catalog), 2, "normalized", "free", "stubborn", (TrainedRun("run", 0, 1),))
    common = {"seller": "stubborn", "rules": Rules(tables.params.turns, reward="impatient")}
    fixed = (tables, catalog, tokenizer)
    written = [
        episode
        for row, trajectory in played.trajectories.items()
        for episode in recording.record(trajectory, *fixed, common | {"buyer": row})
    ]
    curves = {"iteration": np.arange(1), "reward": np.zeros(1)}
    text = report.write(
        tmp_path,
        written,
        Settings(*facts, {}, ""),
        curves,
        arena.play_on_training(played.scripts, jax.random.key(0)),
        {},
        transcribed=2,
    )
    assert "trained" in text and (tmp_path / "transcripts.md").read_text().count("only the seller knows: cost") == 2


def test_the_recipes_do_what_they_say(world):
    assert len(RECIPES) == 3
    rewards_BxN = np.array([[0.0, 1.0], [0.5, 0.0], [-1.0, 0.0], [0.25, 0.0]])
    advantages = ADVANTAGES["leave_one_out"](jnp.array(rewards_BxN), jnp.ones((4, 2), bool), group=2)
    np.testing.assert_allclose(advantages[:, 0], [0.5, -0.5, -1.25, 1.25])
    halver = sellers.make("halver(margin=0.5)")
    scenario = bargaining.scenario(catalogs.products(world[1]), 0, jax.random.key(0))
    floor = sellers.hidden_type(halver, scenario)["floor"]
    assert floor == np.ceil(1.5 * scenario.cost) and halver.describe({"floor": floor}) == {"floor": str(floor)}


def test_the_reward_that_is_configured_is_the_one_that_is_paid(world, build):
    config = world[0]
    tables = build(reward="deal_only", seller="floor")
    states = _scripted(tables).state
    outcomes = jax.vmap(functools.partial(rewards.outcome, params=tables.params))(states)
    assert 0 < (outcomes.reward == 1).sum() < outcomes.reward.size
    assert ((outcomes.reward == 1) == (states.deal_price != NONE)).all()
    with pytest.raises(ValueError, match="game.reward.*'deal'.*deal_only"):
        dataclasses.replace(config.game, reward="deal")


def test_a_hidden_type_of_any_kind_can_be_described():
    for hidden, names in [((), []), ((jnp.int32(3), jnp.float32(0.5)), ["0", "1"]), (3, ["type"])]:
        assert list(Seller().describe(hidden)) == names
    assert Seller().describe({"mood": jnp.int32(3), "pair": [jnp.zeros(2)]}) == {"mood": "3", "pair.0": "[0. 0.]"}
    drawn = StochasticType(floor=jnp.int32(4_550), beta=jnp.float32(0.5), reciprocity=jnp.int32(2_180))
    assert SELLERS["neutral"].describe(drawn) == {"floor": "$45.50", "beta": "0.5", "reciprocity": "0.218"}
