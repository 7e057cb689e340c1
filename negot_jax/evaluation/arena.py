"""Plays buyers, or sellers, on held-out products, all on the same scenario draws (common random numbers)."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negot_jax import progress
from negot_jax.config import field, require_least
from negot_jax.evaluation.episodes import BEST_RESPONSE, Row
from negot_jax.game import bargaining, buyers, play, rewards, sellers, specs
from negot_jax.game.buyers import Buyer
from negot_jax.game.sellers import Seller
from negot_jax.game.types import BUYER, SELLER, GameParams, Outcome, Products, Scenario
from negot_jax.models import sharding
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import players, rollout
from negot_jax.rl.rollout import Trajectory
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Frozen, Program
from negot_jax.solvers import best_response, schedules, selling, utilities
from negot_jax.solvers.best_response import Solution
from negot_jax.solvers.problem import Problem


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What the report plays."""

    episodes: int = field(8, "episodes of each held-out product")
    batch: int = field(256, "episodes that a language model plays at once")
    tuning_draws: int = field(4, "episodes of each training product on which linear schedules are compared")
    best_response: bool = field(True, "solve for the best player against a scripted one, to measure the others by")
    transcripts: int = field(8, "the trained buyer's episodes in transcripts.md; episodes.html shows them all")
    sampling: SamplingConfig = field(SamplingConfig(), "how a language model samples its tokens")
    buyers: tuple[str, ...] = field(
        (
            "linear(start=0.4, end=1.0)",
            "linear(start=0.5, end=1.0)",
            "constant(share=0.5)",
            "constant(share=0.7)",
            "concession",
            "tit_for_tat",
        ),
        "scripted buyers to compare a buyer with",
    )
    sellers: tuple[str, ...] = field(
        ("boulware", "floor"), "scripted sellers to compare a seller with, besides game.seller"
    )

    def __post_init__(self):
        require_least("evaluation", self, 1, "episodes batch tuning_draws")
        require_least("evaluation", self, 0, "transcripts")
        for name, make in (("buyers", buyers.make), ("sellers", sellers.make)):
            for spec in (named := getattr(self, name)):
                specs.require_named(f"evaluation.{name}", make, spec)
            if len(set(named)) < len(named):
                raise ValueError(f"evaluation.{name}={named} names one twice. Leave the repetition out.")


class Played(NamedTuple):
    """What was played: by row, the final states [products * episodes], product by product, and what was said; and the
    best response with its bounds on the prior, if it was asked for. Trajectories are `rollout.readable`, on the host.
    scripts: the scripted rows' own.
    """

    trajectories: dict[Row, Trajectory]
    scripts: dict[Row, Buyer | Seller]
    solution: Solution | None


@dataclasses.dataclass(frozen=True)
class Arena:
    """Where players of the program's role meet its opponent.

    program, frozen: as in training. seller: of `game.seller`. test: the held-out products. train: those that the linear
    schedule is tuned on. prior: the latter at one list price, which the best response is found from.
    """

    program: Program
    frozen: Frozen
    config: EvaluationConfig
    test: Tables
    train: Tables
    prior: Products
    seller: str = "neutral"

    def evaluate(self, weights: Mapping[Row, Weights], key: jax.Array) -> Played:
        """Plays every row of the table: the language models by their trained weights, the scripted players, the best
        response and, among buyers, the tuned schedule.
        """
        config = self.config
        key_scenarios, key_buyers, key_tuning = jax.random.split(key, 3)
        drawn = scenarios(self.test.params, config.episodes, key_scenarios)
        trajectories, solution = {}, None
        buys = self.program.role == BUYER
        named = config.buyers if buys else dict.fromkeys((self.seller, *config.sellers))
        scripted = {Row("scripted", spec): (buyers if buys else sellers).make(spec) for spec in named}
        with progress.phases() as say:
            for row, own in weights.items():
                say(f"playing {row.label}")
                trajectories[row] = self.play_language_model(own, drawn, key_buyers)
            if buys:
                say("tuning the linear schedule")
                tuned = self.tune_linear(key_tuning)
                found = (("start", tuned.start), ("end", tuned.end))
                scripted[Row("tuned", "tuned linear", found)] = tuned
            if self.unsolvable() is None:
                say("solving for the best response")
                key_solver = jax.random.fold_in(key, 3)
                solution = self.solve(key_solver) if buys else None
                scripted[BEST_RESPONSE] = solution.buyer if buys else self.solve_seller(key_solver)
            say("playing the scripted players")
            play_all = self.play_policies if buys else self.play_sellers
            played = play_all(list(scripted.values()), drawn, key_buyers)
        return Played(trajectories | dict(zip(scripted, played, strict=True)), scripted, solution)

    def unsolvable(self) -> str | None:
        """Why there is no best response to compare with, in one line; None if there will be one."""
        if not self.config.best_response:
            return "evaluation.best_response is off"
        if not self.program.scripted:
            return f"the {'seller' if self.program.role == BUYER else 'buyer'} is a language model"
        if self.program.role == SELLER:
            return None
        return best_response.unsupported(self.train.script, self.prior, self.train.params.reward)

    def solve(self, key: jax.Array) -> Solution:
        """The best buyer against the scripted seller, in the configured reward."""
        rules = self.train.params
        utility = utilities.of_reward(rewards.REWARDS[rules.reward])
        return best_response.solve(key, Problem(self.train.script, self.prior, rules.turns, utility))

    def solve_seller(self, key: jax.Array) -> Seller:
        """The best seller found against the scripted buyers; it rounds asks as the scripted seller does."""
        tick = getattr(self.train.script, "tick", 1)  # Not every seller rounds.
        return selling.best_seller(key, self.program.opponent, self.train.params, tick=tick)

    def play_policies(self, policies: Sequence[Buyer], drawn: Scenario, key: jax.Array) -> list[Trajectory]:
        """Scripted buyers on all scenarios against the seller, each as in `Played`.

        A scripted seller plays without text. A language model meets all the buyers in one program, since compiling
        takes longest.
        """
        if self.program.scripted:
            states, _ = play.play_each(key, tuple(policies), self.test.script, drawn, self.test.params)
            trajectory = jax.device_get(rollout.readable(Trajectory(None, None, states)))
            return [jax.tree.map(lambda x, i=i: x[i], trajectory) for i in range(len(policies))]
        trajectory = self._against_model(self.test, policies, drawn, key)
        return [jax.tree.map(lambda x, i=i: x[:, i], trajectory) for i in range(len(policies))]

    def play_sellers(self, policies: Sequence[Seller], drawn: Scenario, key: jax.Array) -> list[Trajectory]:
        """Scripted sellers on all scenarios against the buyer, each as in `Played`."""
        of = lambda policy: functools.partial(_play_seller, self.program, self.frozen, self.test.replace(script=policy))
        return [_in_batches(of(policy), drawn, self.config.batch, key) for policy in policies]

    def play_on_training(self, policies: Mapping[Row, Buyer], key: jax.Array) -> dict[Row, Outcome]:
        """Outcomes [products] of scripted buyers on the training products; {} where a language model plays or the rows
        are sellers.
        """
        if self.program.role == SELLER or not self.program.scripted:
            return {}
        key_scenarios, key_buyers = jax.random.split(key)  # A buyer must not draw what its seller draws.
        rules, drawn = self.train.params, scenarios(self.train.params, 1, key_scenarios)
        outcomes = play.play_each(key_buyers, tuple(policies.values()), self.train.script, drawn, rules)[1]
        return {row: jax.tree.map(lambda x, i=i: x[i], outcomes) for i, row in enumerate(policies)}

    def play_language_model(self, weights: Weights, drawn: Scenario, key: jax.Array) -> Trajectory:
        """A language model on all scenarios, as in `Played`."""
        fixed = (self.program, self.config.sampling, weights, self.frozen, self.test)
        return _in_batches(functools.partial(_play, *fixed), drawn, self.config.batch, key)

    def tune_linear(self, key: jax.Array) -> buyers.Linear:
        """The best rising linear schedule on the training products.

        Against a language model, which is slow to play, the best of a grid in steps of 10 % of B, on one batch.
        """
        if self.program.scripted:
            draws = self.config.tuning_draws
            return schedules.tune_linear(self.train.script, self.train.params, key, draws=draws)[0]
        shares = np.arange(3, 11) / 10
        grid = [buyers.Linear(float(start), float(end)) for start in shares[:4] for end in shares[3:]]
        drawn = rollout.sample_scenarios(key, self.train, self.config.batch)
        states = self._against_model(self.train, grid, drawn, key).state
        earned = jax.vmap(jax.vmap(rewards.outcome, (0, None)), (0, None))(states, self.train.params).reward
        return grid[int(jnp.argmax(earned.mean(axis=0)))]

    def _against_model(self, tables: Tables, policies: Sequence[Buyer], drawn: Scenario, key: jax.Array) -> Trajectory:
        """Scripted buyers against a seller that is a language model: [scenarios, policies], on the host."""
        of = functools.partial(_play_policies, tuple(policies), self.program, self.frozen, tables)
        return _in_batches(of, drawn, max(self.config.batch // len(policies), 1), key)


def scenarios(params: GameParams, episodes: int, key: jax.Array) -> Scenario:
    """`episodes` draws of every product, [products * episodes], product by product."""
    rows = jnp.repeat(jnp.arange(params.products.price.size), episodes)
    return bargaining.scenarios(params.products, rows, key)


def batches(drawn: Scenario, size: int, key: jax.Array) -> list[tuple[jax.Array, Scenario]]:
    """A key and `size` scenarios each; the last batch is filled up with earlier ones, so that one program fits all."""
    count = drawn.product.size
    rows_from = lambda start: jax.tree.map(lambda x: x[(start + jnp.arange(size)) % count], drawn)
    return [(jax.random.fold_in(key, start), rows_from(start)) for start in range(0, count, size)]


def joined(parts: Sequence[Any], count: int) -> Any:
    """The first `count` rows of several batches' arrays, numpy."""
    return jax.tree.map(lambda *own: np.concatenate(own)[:count], *parts)


def _in_batches(play: Callable[..., Trajectory], drawn: Scenario, size: int, key: jax.Array) -> Trajectory:
    """All scenarios by `play(key, scenarios)`, on the host."""
    return joined([jax.device_get(play(*part)) for part in batches(drawn, size, key)], drawn.product.size)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play(program, sampling, weights, frozen, tables, key, drawn):
    return _read(key, tables, drawn, 1, program.players(weights, frozen, tables, sampling))


@functools.partial(jax.jit, static_argnums=0)
def _play_seller(program, frozen, tables, key, drawn):
    """The scripted seller of the tables."""
    return _read(key, tables, drawn, 1, (program.opponent_player(frozen, tables), players.scripted_seller(tables)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play_policies(policies, program, frozen, tables, key, drawn):
    """[scenarios, policies]."""
    buyer = players.scripted_buyer(policies, tables.params.turns, key)
    read = _read(key, tables, drawn, len(policies), (buyer, program.opponent_player(frozen, tables)))
    return jax.tree.map(lambda x: x.reshape(-1, len(policies), *x.shape[1:]), read)


def _read(key, tables, drawn, group, seated) -> Trajectory:
    """For the host to read."""
    trajectory = rollout.rollout(key, tables, sharding.shard_rows(drawn), group, *seated)
    return sharding.replicate(rollout.readable(trajectory))
