"""Buyers on held-out products, all on the same scenario draws (common random numbers)."""

from collections.abc import Mapping
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from negot_jax.config import field
from negot_jax.evaluation.statistics import BEST, TUNED
from negot_jax.game import bargaining, buyers, play, rewards
from negot_jax.game.types import GameParams, Outcome, Products, Scenario
from negot_jax.models.presets import ModelConfig
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import rollout
from negot_jax.rl.environment import Environment
from negot_jax.solvers import best_response, utilities


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What is played for the tables."""

    episodes: int = field(8, "episodes of each held-out product")
    batch: int = field(256, "episodes that a language model plays at once")
    tuning_draws: int = field(4, "episodes a training product on which the tuned linear schedule is chosen")
    best_response: bool = field(True, "solve for the best buyer against the seller, and measure the others by it")
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
        for name in ("episodes", "batch", "tuning_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"evaluation.{name}={getattr(self, name)} must be at least 1.")
        for spec in self.buyers:
            buyers.make(spec)


def scenarios(params: GameParams, episodes: int, key: jax.Array) -> Scenario:
    """`episodes` draws of every product, [products * episodes], product by product."""
    products = jnp.arange(params.products.price.size)
    keys = jax.random.split(key, (products.size, episodes))
    pin = functools.partial(bargaining.scenario, params.products)
    drawn = jax.vmap(lambda product, keys: jax.vmap(functools.partial(pin, product))(keys))(products, keys)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), drawn)


def play_scripted(buyer: play.Buyer, env: Environment, drawn: Scenario, key: jax.Array) -> Outcome:
    """A scripted buyer on all scenarios: outcomes [products, episodes]."""
    _, outcome = play.play(key, buyer, env.seller, drawn, env.params)
    return by_product(outcome, env)


def play_language_model(
    model: ModelConfig,
    weights: Weights,
    config: EvaluationConfig,
    env: Environment,
    drawn: Scenario,
    key: jax.Array,
) -> tuple[Outcome, rollout.Trajectory]:
    """A language model on all scenarios: outcomes [products, episodes], and the first batch as it was played."""
    count = drawn.product.size
    starts = range(0, count, config.batch)
    played = []
    for start in starts:
        # The last batch is filled up with scenarios played before, so that one program fits all.
        rows = (start + jnp.arange(config.batch)) % count
        played.append(
            _play(model, config.sampling, weights, env, drawn_at(drawn, rows), jax.random.fold_in(key, start))
        )
    outcome = jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *(outcome for outcome, _ in played))
    return by_product(outcome, env), played[0][1]


def drawn_at(drawn: Scenario, rows: jax.Array) -> Scenario:
    return jax.tree.map(lambda x: x[rows], drawn)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play(model, sampling, weights, env, drawn, key):
    trajectory = rollout.rollout(key, env, drawn, 1, rollout.LanguageModelBuyer(model, weights, sampling))
    return jax.vmap(rewards.outcome)(trajectory.state), trajectory


def by_product(outcome: Outcome, env: Environment) -> Outcome:
    """Numpy outcomes of shape [products, episodes]."""
    products = env.params.products.price.size
    return jax.tree.map(lambda x: np.asarray(x).reshape(products, -1), outcome)


def evaluate(
    model: ModelConfig,
    weights: Mapping[str, Weights],
    config: EvaluationConfig,
    test: Environment,
    train: Environment,
    key: jax.Array,
    prior: Products,
) -> tuple[dict[str, Outcome], dict[str, rollout.Trajectory], best_response.Solution | None]:
    """Every row of the table: the named language models, the scripted buyers, the tuned schedule, the best response.

    Args:
      weights: by the row's name. test, train: the held-out products, and those on which the schedule is tuned.
      prior: the latter at one list price, from which the best response is found.
    Returns:
      outcomes [products, episodes] by row; a batch of each language model's episodes; and the best response, with its
      bounds on `prior`, if the configuration asks for it.
    """
    key_scenarios, key_buyers, key_tuning = jax.random.split(key, 3)
    drawn = scenarios(test.params, config.episodes, key_scenarios)
    outcomes, trajectories = {}, {}
    for name, own in weights.items():
        outcomes[name], trajectories[name] = play_language_model(model, own, config, test, drawn, key_buyers)
    for spec in config.buyers:
        outcomes[spec] = play_scripted(buyers.make(spec), test, drawn, key_buyers)
    tuned, _ = buyers.tune_linear(
        train.seller, train.params.products, train.params, key_tuning, draws=config.tuning_draws
    )
    outcomes[f"{TUNED}({tuned.start:g}, {tuned.end:g})"] = play_scripted(tuned, test, drawn, key_buyers)
    if not config.best_response:
        return outcomes, trajectories, None
    key_solver = jax.random.fold_in(key, 3)
    solution = best_response.solve(key_solver, train.seller, prior, train.params.turns, utilities.reward)
    outcomes[BEST] = play_scripted(solution.buyer, test, drawn, key_buyers)
    return outcomes, trajectories, solution
