"""A small world, made from the library alone: a generated catalog, a tokenizer trained on it, tables, a program."""

import dataclasses

from negot_jax import catalog as catalogs
from negot_jax.catalog import Catalog, synthetic
from negot_jax.game.personas import NEUTRAL
from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import prompts, render
from negot_jax.language import tokenizer as tokenizers
from negot_jax.language.dialect import Own
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.models.choice import ModelChoice
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.configs import GameConfig, LanguageConfig, LearnerConfig, OptimizerConfig
from negot_jax.rl.tables import Tables, build_tables
from negot_jax.rl.train_step import Program
from negot_jax.training.warm_start import WarmStartConfig

GAME = GameConfig(turns=2, seller="neutral(tick=100)")
LANGUAGE = LanguageConfig(vocab_size=512, prompts="compact", text_tokens=4, message_tokens=32, decoding="constrained")
CLONING = WarmStartConfig(
    steps=70,
    episodes=24,
    buyers=tuple(
        f"concession(beta={beta}, k={k}, end={end}, noise=0.1, tick=100)"
        for beta, k, end in ((0.25, 0.4, 0.9), (0.25, 0.5, 0.8), (0.5, 0.4, 1.0), (0.5, 0.6, 0.9), (1.0, 0.4, 0.9))
    ),
    optimizer=OptimizerConfig(learning_rate=2e-2, warmup=5),
)
MODEL = ModelChoice(layers=1, width=32, mlp=64)
LEARNER = LearnerConfig(scenarios=4, group=4)


def catalog() -> Catalog:
    """40 products that share a codename, which a model of one layer can learn by heart; copying takes two."""
    products = catalogs.normalize(synthetic.load(size=40))
    return dataclasses.replace(products, codenames=("books_7",) * len(products))


def tokenizer(products: Catalog) -> Tokenizer:
    rows = [(product, role) for product in range(len(products)) for role in (BUYER, SELLER)]
    told = [
        prompts.rules(products, product, role, GAME.turns, LANGUAGE.prompts) + prompts.about(products, product)[:16]
        for product, role in rows
    ]
    manners = (render.BUYER_TALK, NEUTRAL.talk)
    spoken = [f" {said}" for talk in manners for variants in talk.values() for said in variants]
    return tokenizers.train([*told, *spoken * 15], LANGUAGE.vocab_size, ["books_"])


def tables(products: Catalog, words: Tokenizer, language: LanguageConfig = LANGUAGE, **options) -> Tables:
    """The tables, with `GAME` unless another game is given. options: of `build_tables`."""
    return build_tables(products, Own(words), options.pop("game", GAME), language, **options)


def program(vocab_size: int, model: ModelChoice = MODEL, **options) -> Program:
    """options: fields of `Program`."""
    defaults = dict(config=LEARNER, algorithm=AlgorithmConfig(), sampling=SamplingConfig())
    defaults |= dict(optimizer=OptimizerConfig(beta2=0.99, schedule="linear"), iterations=10)
    return Program(dataclasses.replace(model.config(), vocab_size=vocab_size), **(defaults | options))
