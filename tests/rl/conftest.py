"""A small world: a generated catalogue, a tokenizer trained on it, and a tiny model that has learned to speak."""

import dataclasses
import pathlib

import jax
import pytest

from experiments import setup
from experiments.configs import quickstart
from negot_jax.catalog import synthetic
from negot_jax.config import from_config_dict
from negot_jax.rl import environment
from negot_jax.rl.learner import OptimizerConfig
from negot_jax.training.warm_start import WarmStartConfig, warm_start


def small_config() -> setup.Config:
    """The quickstart, cut down until it compiles in seconds."""
    config = quickstart.get_config()
    config.game.turns = 3
    config.language.update(vocab_size=512, text_tokens=4, message_tokens=32)
    config.model.update(layers=1, width=32, heads=2, kv_heads=1, head_dim=16, mlp=64)
    config.learner.update(scenarios=4, group=4, micro_batches=1)
    return from_config_dict(setup.Config, config)


@dataclasses.dataclass(frozen=True)
class World:
    """One tokenizer, the environments of both ways of decoding, and a warm-started model."""

    config: setup.Config
    run: setup.Run
    free: environment.Environment
    weights: dict

    @property
    def constrained(self) -> environment.Environment:
        return self.run.train_env

    def env(self, decoding: str) -> environment.Environment:
        return self.free if decoding == "free" else self.constrained


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    config = small_config()
    run = setup.prepare(config, pathlib.Path(tmp_path_factory.mktemp("run")), print_line=lambda line: None)
    language = dataclasses.replace(config.language, decoding="free")
    free = environment.build(run.train, run.tokenizer, config.game, language, run.train_env.grammar)
    cloning = WarmStartConfig(
        steps=60, episodes=64, buyers=config.warm_start.buyers, optimizer=OptimizerConfig(learning_rate=1e-2, warmup=5)
    )
    weights = warm_start(cloning, run.learner.model, jax.random.key(1), run.init_weights(), run.train_env)
    return World(config=config, run=run, free=free, weights=weights)


@pytest.fixture(scope="session")
def catalog():
    return synthetic.load(size=40)
