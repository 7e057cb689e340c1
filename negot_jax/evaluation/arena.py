"""Buyers on held-out products, all on the same scenario draws (common random numbers)."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np

from negot_jax.config import field
from negot_jax.evaluation.statistics import BEST, TUNED
from negot_jax.game import bargaining, buyers, play, rewards
from negot_jax.game.types import GameParams, Outcome, Products, Scenario
from negot_jax.models import sharding
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import players, rollout
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Frozen, Program
from negot_jax.solvers import best_response, utilities


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is played for the tables."""

    episodes: int = field(8, "episodes of each held-out product")
    batch: int = field(256, "episodes that a language model plays at once")
    tuning_draws: int = field(4, "episodes a training product on which the tuned linear schedule is chosen")
    best_response: bool = field(True, "solve for the best buyer against a scripted seller; others are measured by it")
    transcripts: int = field(8, "episodes written out in transcripts.md")
    sampling: SamplingConfig = field(SamplingConfig(), "how a language model draws its tokens")
    buyers: tuple[str, ...] = field(
        (
            "linear(start=0.4, end=1.0)",
            "linear(start=0.5, end=1.0)",
            "constant(share=0.5)",
            "constant(share=0.7)",
            "concession",
            "tit_for_tat",
        ),
        "scripted buyers to stand beside the trained one",
    )

    def __post_init__(self):
        for name, least in (("episodes", 1), ("batch", 1), ("tuning_draws", 1), ("transcripts", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"evaluation.{name}={getattr(self, name)} must be at least {least}.")
        for spec in self.buyers:
            buyers.make(spec)


def scenarios(params: GameParams, episodes: int, key: jax.Array) -> Scenario:
    """`episodes` draws of every product, [products * episodes], product by product."""
    products = jnp.arange(params.products.price.size)
    keys = jax.random.split(key, (products.size, episodes))
    pin = functools.partial(bargaining.scenario, params.products)
    drawn = jax.vmap(lambda product, keys: jax.vmap(functools.partial(pin, product))(keys))(products, keys)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), drawn)


def play_policies(
    policies: Sequence[play.Buyer],
    program: Program,
    frozen: Frozen,
    tables: Tables,
    drawn: Scenario,
    key: jax.Array,
    batch: int,
) -> list[Outcome]:
    """Scripted buyers on all scenarios against the seller: outcomes [products, episodes] of each.

    A scripted seller plays without text. One that is a language model meets all the buyers in one program, since that
    takes longest to compile.
    """
    if program.scripted:
        played = [play.play(key, policy, tables.script, drawn, tables.params)[1] for policy in policies]
        return [by_product(outcome, tables) for outcome in played]
    play_batch = functools.partial(_play_policies, tuple(policies), program, frozen, tables)
    played = [play_batch(*part) for part in _batches(drawn, max(batch // len(policies), 1), key)]
    outcome = _joined(played, drawn.product.size)
    by_policy = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), outcome)
    return [by_product(jax.tree.map(operator.itemgetter(i), by_policy), tables) for i in range(len(policies))]


def play_language_model(
    program: Program,
    sampling: SamplingConfig,
    weights: Weights,
    frozen: Frozen,
    tables: Tables,
    drawn: Scenario,
    key: jax.Array,
    batch: int,
) -> tuple[Outcome, rollout.Trajectory]:
    """A language model on all scenarios: outcomes [products, episodes], and the first batch as it was played."""
    played = [_play(program, sampling, weights, frozen, tables, *part) for part in _batches(drawn, batch, key)]
    return by_product(_joined([outcome for outcome, _ in played], drawn.product.size), tables), played[0][1]


def drawn_at(drawn: Scenario, rows: jax.Array) -> Scenario:
    return jax.tree.map(lambda x: x[rows], drawn)


def _batches(drawn: Scenario, size: int, key: jax.Array) -> list[tuple[jax.Array, Scenario]]:
    """A key and so many scenarios each; the last batch is filled up with earlier ones, so that one program fits all."""
    count = drawn.product.size
    starts = range(0, count, size)
    return [(jax.random.fold_in(key, start), drawn_at(drawn, (start + jnp.arange(size)) % count)) for start in starts]


def _joined(outcomes: Sequence[Outcome], count: int) -> Outcome:
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *outcomes)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play(program, sampling, weights, frozen, tables, key, drawn):
    seated = program.players(weights, frozen, tables, sampling)
    trajectory = rollout.rollout(key, tables, sharding.split_rows(drawn), 1, *seated)
    return sharding.keep_whole((jax.vmap(rewards.outcome)(trajectory.state), trajectory))  # The host reads both.


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play_policies(policies, program, frozen, tables, key, drawn):
    """Outcomes [scenarios, policies]."""
    buyer = players.scripted_buyer(policies, tables.params.turns, key)
    seller = program.opponent_player(frozen, tables)
    trajectory = rollout.rollout(key, tables, sharding.split_rows(drawn), len(policies), buyer, seller)
    outcome = sharding.keep_whole(jax.vmap(rewards.outcome)(trajectory.state))
    return jax.tree.map(lambda x: x.reshape(-1, len(policies), *x.shape[1:]), outcome)


def by_product(outcome: Outcome, tables: Tables) -> Outcome:
    """Numpy outcomes of shape [products, episodes]."""
    products = tables.params.products.price.size
    return jax.tree.map(lambda x: np.asarray(x).reshape(products, -1), outcome)


def tune_linear(
    program: Program, frozen: Frozen, train: Tables, config: EvaluationConfig, key: jax.Array
) -> buyers.Linear:
    """The best rising linear schedule on the training products.

    Against a language model, whose every word costs, among those of a grid of 10 % of B, on one batch of scenarios.
    """
    if program.scripted:
        products, draws = train.params.products, config.tuning_draws
        return buyers.tune_linear(train.script, products, train.params, key, draws=draws)[0]
    shares = np.arange(3, 11) / 10
    grid = tuple(buyers.Linear(float(start), float(end)) for start in shares[:4] for end in shares[3:])
    drawn = rollout.sample_scenarios(key, train, config.batch)
    parts = _batches(drawn, max(config.batch // len(grid), 1), key)
    outcome = _joined([_play_policies(grid, program, frozen, train, *part) for part in parts], config.batch)
    return grid[int(jnp.argmax(outcome.reward.mean(axis=0)))]


def evaluate(
    program: Program,
    weights: Mapping[str, Weights],
    frozen: Frozen,
    config: EvaluationConfig,
    test: Tables,
    train: Tables,
    key: jax.Array,
    prior: Products,
) -> tuple[dict[str, Outcome], dict[str, rollout.Trajectory], best_response.Solution | None]:
    """Every row of the table: the named language models, the scripted buyers, the tuned schedule, the best response.

    Args:
      program: of the run. weights: all that the buyer has, by the row's name. frozen: as in training.
      test, train: the held-out products, and those on which the schedule is tuned.
      prior: the latter at one list price, from which the best response is found.
    Returns:
      outcomes [products, episodes] by row; a batch of each language model's episodes; and the best response, with its
      bounds on `prior`, if the configuration asks for it.
    """
    key_scenarios, key_buyers, key_tuning = jax.random.split(key, 3)
    drawn = scenarios(test.params, config.episodes, key_scenarios)
    outcomes, trajectories = {}, {}
    for name, own in weights.items():
        outcomes[name], trajectories[name] = play_language_model(
            program, config.sampling, own, frozen, test, drawn, key_buyers, config.batch
        )
    tuned = tune_linear(program, frozen, train, config, key_tuning)
    scripted = {spec: buyers.make(spec) for spec in config.buyers}
    scripted[f"{TUNED}({tuned.start:g}, {tuned.end:g})"] = tuned
    solution = None
    if config.best_response and program.scripted:
        key_solver = jax.random.fold_in(key, 3)
        solution = best_response.solve(key_solver, train.script, prior, train.params.turns, utilities.reward)
        scripted[BEST] = solution.buyer
    played = play_policies(list(scripted.values()), program, frozen, test, drawn, key_buyers, config.batch)
    return outcomes | dict(zip(scripted, played, strict=True)), trajectories, solution
