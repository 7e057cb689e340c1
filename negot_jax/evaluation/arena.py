"""Buyers on held-out products, all on the same scenario draws (common random numbers)."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np

from negot_jax import progress
from negot_jax.config import field
from negot_jax.evaluation import rows
from negot_jax.evaluation.rows import Row
from negot_jax.game import bargaining, buyers, play, rewards
from negot_jax.game.types import GameParams, Outcome, Products, Scenario
from negot_jax.models import sharding
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import players, rollout
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Frozen, Program
from negot_jax.solvers import best_response, schedules, utilities
from negot_jax.solvers.problem import Problem


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What the report plays."""

    episodes: int = field(8, "episodes of each held-out product")
    batch: int = field(256, "episodes that a language model plays at once")
    tuning_draws: int = field(4, "episodes of each training product on which linear schedules are compared")
    best_response: bool = field(True, "solve for the best buyer against a scripted seller, to measure the others by")
    transcripts: int = field(8, "episodes written out in transcripts.md")
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
        "scripted buyers to compare with",
    )

    def __post_init__(self):
        for name, least in (("episodes", 1), ("batch", 1), ("tuning_draws", 1), ("transcripts", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"evaluation.{name}={getattr(self, name)} must be at least {least}.")
        for spec in self.buyers:
            buyers.make(spec)
        if len(set(self.buyers)) < len(self.buyers):
            raise ValueError(f"evaluation.buyers={self.buyers} names a buyer twice. Leave the repetition out.")


@dataclasses.dataclass(frozen=True)
class Played:
    """What was played: outcomes [products, episodes] by row; the first batch of each language model's episodes; and
    the best response with its bounds on the prior, if it was asked for.
    """

    outcomes: dict[Row, Outcome]
    trajectories: dict[Row, rollout.Trajectory]
    solution: best_response.Solution | None


@dataclasses.dataclass(frozen=True)
class Arena:
    """Where buyers meet the seller.

    program, frozen: as in training. test: the held-out products. train: those that the linear schedule is tuned on.
    prior: the latter at one list price, which the best response is found from.
    """

    program: Program
    frozen: Frozen
    config: EvaluationConfig
    test: Tables
    train: Tables
    prior: Products

    def evaluate(self, weights: Mapping[Row, Weights], key: jax.Array) -> Played:
        """Every row of the table: the language models, the scripted buyers, the tuned schedule, the best response.

        Args:
          weights: what is trained of each language model, by row.
        """
        config = self.config
        key_scenarios, key_buyers, key_tuning = jax.random.split(key, 3)
        drawn = scenarios(self.test.params, config.episodes, key_scenarios)
        outcomes, trajectories, solution = {}, {}, None
        scripted = {Row("scripted", spec): buyers.make(spec) for spec in config.buyers}
        with progress.phases() as say:
            for row, own in weights.items():
                say(f"playing {row.label}")
                outcomes[row], trajectories[row] = self.play_language_model(own, drawn, key_buyers)
            say("tuning the linear schedule")
            tuned = self.tune_linear(key_tuning)
            scripted[rows.tuned(tuned)] = tuned
            if self.unsolvable() is None:
                say("solving for the best response")
                solution = self.solve(jax.random.fold_in(key, 3))
                scripted[rows.BEST_RESPONSE] = solution.buyer
            say("playing the scripted buyers")
            played = self.play_policies(list(scripted.values()), drawn, key_buyers)
        return Played(outcomes | dict(zip(scripted, played, strict=True)), trajectories, solution)

    def unsolvable(self) -> str | None:
        """Why there is no best response to compare with, in one line; None if there will be one."""
        if not self.config.best_response:
            return "evaluation.best_response is off"
        if not self.program.scripted:
            return "the seller is a language model"
        return best_response.unsupported(self.train.script, self.prior, self.train.params.reward)

    def solve(self, key: jax.Array) -> best_response.Solution:
        """The best buyer against the scripted seller, in the configured reward."""
        rules = self.train.params
        utility = utilities.of_reward(rewards.REWARDS[rules.reward])
        return best_response.solve(key, Problem(self.train.script, self.prior, rules.turns, utility))

    def play_policies(self, policies: Sequence[buyers.Buyer], drawn: Scenario, key: jax.Array) -> list[Outcome]:
        """Scripted buyers on all scenarios against the seller: outcomes [products, episodes] of each.

        A scripted seller plays without text. A language model meets all the buyers in one program, since compiling
        takes longest.
        """
        if self.program.scripted:
            played = [play.play(key, policy, self.test.script, drawn, self.test.params)[1] for policy in policies]
            return [_by_product(outcome, self.test) for outcome in played]
        outcome = self._against_model(self.test, policies, drawn, key)
        by_policy = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), outcome)
        return [_by_product(jax.tree.map(operator.itemgetter(i), by_policy), self.test) for i in range(len(policies))]

    def play_language_model(
        self, weights: Weights, drawn: Scenario, key: jax.Array
    ) -> tuple[Outcome, rollout.Trajectory]:
        """A language model on all scenarios: outcomes [products, episodes], and the first batch as it was played."""
        fixed = (self.program, self.config.sampling, weights, self.frozen, self.test)
        played = [_play(*fixed, *part) for part in batches(drawn, self.config.batch, key)]
        return _by_product(_joined([outcome for outcome, _ in played], drawn.product.size), self.test), played[0][1]

    def tune_linear(self, key: jax.Array) -> buyers.Linear:
        """The best rising linear schedule on the training products.

        Against a language model, whose every word costs, among those of a grid of 10 % of B, on one batch.
        """
        if self.program.scripted:
            draws = self.config.tuning_draws
            return schedules.tune_linear(self.train.script, self.train.params, key, draws=draws)[0]
        shares = np.arange(3, 11) / 10
        grid = [buyers.Linear(float(start), float(end)) for start in shares[:4] for end in shares[3:]]
        drawn = rollout.sample_scenarios(key, self.train, self.config.batch)
        outcome = self._against_model(self.train, grid, drawn, key)
        return grid[int(jnp.argmax(outcome.reward.mean(axis=0)))]

    def _against_model(
        self, tables: Tables, policies: Sequence[buyers.Buyer], drawn: Scenario, key: jax.Array
    ) -> Outcome:
        """Scripted buyers against a seller that is a language model: outcomes [scenarios, policies]."""
        fixed = (tuple(policies), self.program, self.frozen, tables)
        parts = batches(drawn, max(self.config.batch // len(policies), 1), key)
        return _joined([_play_policies(*fixed, *part) for part in parts], drawn.product.size)


def scenarios(params: GameParams, episodes: int, key: jax.Array) -> Scenario:
    """`episodes` draws of every product, [products * episodes], product by product."""
    rows = jnp.repeat(jnp.arange(params.products.price.size), episodes)
    return bargaining.scenarios(params.products, rows, key)


def batches(drawn: Scenario, size: int, key: jax.Array) -> list[tuple[jax.Array, Scenario]]:
    """A key and `size` scenarios each; the last batch is filled up with earlier ones, so that one program fits all."""
    count = drawn.product.size

    def rows_from(start: int) -> Scenario:
        return jax.tree.map(lambda x: x[(start + jnp.arange(size)) % count], drawn)

    return [(jax.random.fold_in(key, start), rows_from(start)) for start in range(0, count, size)]


def _joined(outcomes: Sequence[Outcome], count: int) -> Outcome:
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *outcomes)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play(program, sampling, weights, frozen, tables, key, drawn):
    seated = program.players(weights, frozen, tables, sampling)
    trajectory = rollout.rollout(key, tables, sharding.shard_rows(drawn), 1, *seated)
    return sharding.replicate((_outcomes(trajectory, tables), trajectory))  # The host reads both.


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play_policies(policies, program, frozen, tables, key, drawn):
    """Outcomes [scenarios, policies]."""
    buyer = players.scripted_buyer(policies, tables.params.turns, key)
    seller = program.opponent_player(frozen, tables)
    trajectory = rollout.rollout(key, tables, sharding.shard_rows(drawn), len(policies), buyer, seller)
    outcome = sharding.replicate(_outcomes(trajectory, tables))
    return jax.tree.map(lambda x: x.reshape(-1, len(policies), *x.shape[1:]), outcome)


def _outcomes(trajectory: rollout.Trajectory, tables: Tables) -> Outcome:
    return jax.vmap(rewards.outcome, (0, None))(trajectory.state, tables.params)


def _by_product(outcome: Outcome, tables: Tables) -> Outcome:
    """Numpy outcomes of shape [products, episodes]."""
    products = tables.params.products.price.size
    return jax.tree.map(lambda x: np.asarray(x).reshape(products, -1), outcome)
