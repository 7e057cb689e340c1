"""A small world: a generated catalogue, a tokenizer trained on it, and a tiny model that has learned to speak."""

import dataclasses
import functools

import jax
import pytest

from experiments import setup
from experiments.configs import quickstart
from negot_jax import catalog as catalogs
from negot_jax.catalog import synthetic
from negot_jax.config import from_config_dict
from negot_jax.game.types import BUYER, Scenario
from negot_jax.language.dialect import Own
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.models import transformer
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl import environment, rollout
from negot_jax.rl.learner import Learner, OptimizerConfig
from negot_jax.rl.players import LanguageModelPlayer
from negot_jax.training.warm_start import WarmStartConfig, warm_start

TEMPERATURE = 0.8


@dataclasses.dataclass(frozen=True)
class World:
    """One catalogue and tokenizer, the environments of both ways of decoding, and a model that can speak."""

    config: setup.Config
    catalog: catalogs.Catalog
    tokenizer: Tokenizer
    learner: Learner
    constrained: environment.Environment
    free: environment.Environment
    weights: transformer.Weights

    def play(self, env: environment.Environment, weights: transformer.Weights, seed: int = 0) -> rollout.Trajectory:
        """Eight scenarios, four episodes each; one program for each way of decoding."""
        return _play(self.learner.model, weights, env, rollout.sample_scenarios(jax.random.key(seed), env, 8))


@functools.partial(jax.jit, static_argnums=0)
def _play(model, weights, env: environment.Environment, scenarios: Scenario) -> rollout.Trajectory:
    buyer = LanguageModelPlayer(BUYER, model, weights, SamplingConfig(temperature=TEMPERATURE))
    return rollout.rollout(jax.random.key(4), env, scenarios, 4, buyer)


@pytest.fixture(scope="session")
def world() -> World:
    values = quickstart.get_config()
    values.game.turns = 2
    values.language.update(vocab_size=512, text_tokens=4, message_tokens=32)
    values.model.update(layers=1, width=32, mlp=64)
    values.learner.update(scenarios=4, group=4, minibatches=1, micro_batches=1)
    config = from_config_dict(setup.Config, values)
    # One codename for all, which a model of one layer can learn by heart; copying takes two.
    catalog = catalogs.normalize(synthetic.load(size=40))
    catalog = dataclasses.replace(catalog, codenames=("books_7",) * len(catalog))
    tokenizer = setup.train_tokenizer(catalog, config)
    model = dataclasses.replace(config.model.config(), vocab_size=tokenizer.vocab_size)
    constrained = environment.build(catalog, Own(tokenizer), config.game, config.language)
    language = dataclasses.replace(config.language, decoding="free")
    free = environment.build(catalog, Own(tokenizer), config.game, language, token_grammar=constrained.grammar)
    cloning = WarmStartConfig(
        steps=70, episodes=24, buyers=config.warm_start.buyers, optimizer=OptimizerConfig(learning_rate=2e-2, warmup=5)
    )
    start = transformer.init(jax.random.key(2), model)
    return World(
        config=config,
        catalog=catalog,
        tokenizer=tokenizer,
        learner=Learner(model, config.learner, config.algorithm, config.sampling, config.optimizer, iterations=10),
        constrained=constrained,
        free=free,
        weights=warm_start(cloning, model, jax.random.key(1), start, constrained),
    )
