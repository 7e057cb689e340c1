"""The small world with a tiny model that has learned to speak."""

import dataclasses
import functools

import jax
import pytest

from negot_jax.catalog import Catalog
from negot_jax.game.play import Buyer
from negot_jax.game.types import BUYER, Scenario
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.models import transformer
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl import rollout, scoring
from negot_jax.rl.configs import SellerConfig
from negot_jax.rl.players import LanguageModelPlayer
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import FrozenModel, Program
from negot_jax.training.warm_start import warm_start
from tests.rl import small

TEMPERATURE = 0.8


score_messages = jax.jit(scoring.score_messages, static_argnums=(0, 2, 5, 6))


@dataclasses.dataclass(frozen=True)
class World:
    """One catalog and tokenizer, the tables for both ways of decoding, and a model that can speak."""

    catalog: Catalog
    tokenizer: Tokenizer
    program: Program
    constrained: Tables
    free: Tables
    weights: transformer.Weights

    def play(self, tables: Tables, weights: transformer.Weights, seed: int = 0) -> rollout.Trajectory:
        """Eight scenarios, four episodes each; one program for each way of decoding."""
        return _play(self.program.model, weights, tables, rollout.sample_scenarios(jax.random.key(seed), tables, 8))

    def two_sided(
        self, decoding: str = "constrained", message_tokens: int = 64, regulation: str = "repair", **catalog
    ) -> Tables:
        """Tables for models on both sides. catalog: columns to replace."""
        return small.tables(
            dataclasses.replace(self.catalog, **catalog),
            self.tokenizer,
            dataclasses.replace(small.LANGUAGE, message_tokens=message_tokens),
            game=dataclasses.replace(small.GAME, regulation=regulation),
            seller=SellerConfig(model="own", message_tokens=message_tokens, decoding=decoding),
            token_grammar=self.constrained.grammar,
        )

    def seller_program(self, opponent: FrozenModel | tuple[Buyer, ...]) -> Program:
        """The program that trains a seller."""
        config = dataclasses.replace(self.program.config, role="seller")
        return dataclasses.replace(self.program, config=config, opponent=opponent)


@functools.partial(jax.jit, static_argnums=0)
def _play(model, weights, tables: Tables, scenarios: Scenario) -> rollout.Trajectory:
    buyer = LanguageModelPlayer(BUYER, model, weights, SamplingConfig(temperature=TEMPERATURE))
    return rollout.rollout(jax.random.key(4), tables, scenarios, 4, buyer)


@pytest.fixture(scope="session")
def world() -> World:
    catalog = small.catalog()
    tokenizer = small.tokenizer(catalog)
    program = small.program(tokenizer.vocab_size)
    constrained = small.tables(catalog, tokenizer)
    language = dataclasses.replace(small.LANGUAGE, decoding="free")
    return World(
        catalog=catalog,
        tokenizer=tokenizer,
        program=program,
        constrained=constrained,
        free=small.tables(catalog, tokenizer, language, token_grammar=constrained.grammar),
        weights=warm_start(
            small.CLONING,
            program.model,
            jax.random.key(1),
            transformer.init(jax.random.key(2), program.model),
            constrained,
        ),
    )
