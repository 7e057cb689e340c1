"""From a configuration to the parts of a run: catalogue, tokenizer, environments, model, learner."""

import dataclasses
import pathlib
from typing import Literal

import jax

from negot_jax import catalog as catalogs
from negot_jax.catalog import Catalog
from negot_jax.config import field
from negot_jax.evaluation.arena import EvaluationConfig
from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import prompts, render
from negot_jax.language import tokenizer as tokenizers
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.models import transformer
from negot_jax.models.presets import ModelConfig
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl import environment
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.environment import Environment, GameConfig, LanguageConfig
from negot_jax.rl.learner import Learner, LearnerConfig, OptimizerConfig
from negot_jax.training.loop import TrainingConfig
from negot_jax.training.warm_start import WarmStartConfig

TOKENIZER = "tokenizer.model"  # In the workdir.


@dataclasses.dataclass(frozen=True)
class CatalogConfig:
    """The products."""

    name: Literal["generated", "amazon_history_price"] = field("generated", "'generated' needs no download")
    data_dir: str | None = field(None, "folder of the catalogue's JSON files; without it they are downloaded")
    prices: Literal["dollars", "normalised"] = field(
        "dollars", "'normalised' speaks of percent of the list price, which is then $100"
    )
    test: int = field(128, "held-out products")


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that identifies a run."""

    seed: int = field(0, "seed of everything random")
    catalog: CatalogConfig = field(CatalogConfig(), "the products")
    game: GameConfig = field(GameConfig(), "the rules and the seller")
    language: LanguageConfig = field(LanguageConfig(), "prompts and messages")
    model: ModelConfig = field(ModelConfig(), "the language model")
    warm_start: WarmStartConfig = field(WarmStartConfig(), "behaviour cloning before reinforcement learning")
    sampling: SamplingConfig = field(SamplingConfig(), "how the buyer draws its tokens in training")
    learner: LearnerConfig = field(LearnerConfig(), "one iteration of reinforcement learning")
    algorithm: AlgorithmConfig = field(AlgorithmConfig(), "what its episodes teach")
    optimizer: OptimizerConfig = field(OptimizerConfig(), "the optimizer of reinforcement learning")
    training: TrainingConfig = field(TrainingConfig(), "length and checkpoints")
    evaluation: EvaluationConfig = field(EvaluationConfig(), "what the report plays")


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a run. train, test: catalogues, and the environments made of them."""

    config: Config
    train: Catalog
    test: Catalog
    tokenizer: Tokenizer
    train_env: Environment
    test_env: Environment
    learner: Learner

    @property
    def key(self) -> jax.Array:
        return jax.random.key(self.config.seed)

    def init_weights(self) -> transformer.Weights:
        return transformer.init(jax.random.fold_in(self.key, 0), self.learner.model)


def prepare(config: Config, workdir: pathlib.Path, print_line=print) -> Run:
    """Builds a run, with the workdir's tokenizer, or a new one where there is none yet. Writes nothing.

    Raises:
      ValueError: fields of the configuration that do not fit one another, or the catalogue.
    """
    catalog = catalogs.load(config.catalog.name, data_dir=config.catalog.data_dir)
    print_line(catalogs.describe(catalog, config.catalog.test))
    if config.catalog.prices == "normalised":
        catalog = catalogs.normalise(catalog)
    train, test = catalogs.split(catalog, config.catalog.test)
    config.learner.require_devices(jax.device_count())
    path = workdir / TOKENIZER
    tokenizer = tokenizers.load(path) if path.exists() else train_tokenizer(train, config)
    if config.model.vocab_size not in (None, tokenizer.vocab_size):
        raise ValueError(
            f"config.model.vocab_size={config.model.vocab_size}, but the tokenizer has {tokenizer.vocab_size} tokens. "
            "Leave it out; config.language.vocab_size sizes the tokenizer."
        )
    model = dataclasses.replace(config.model, vocab_size=tokenizer.vocab_size)
    train_env = environment.build(train, tokenizer, config.game, config.language)
    test_env = environment.build(test, tokenizer, config.game, config.language, train_env.grammar)
    learn = Learner(
        model, config.learner, config.algorithm, config.sampling, config.optimizer, config.training.iterations
    )
    return Run(config, train, test, tokenizer, train_env, test_env, learn)


def train_tokenizer(catalog: Catalog, config: Config) -> Tokenizer:
    """A tokenizer for what will be said: prompts, product texts, and the scripted sides' phrases."""
    read = 4 * config.language.text_tokens  # Of a product's text, in characters: about what a prompt will hold.
    told = [
        prompts.rules(catalog, product, role, config.game.turns, config.language.prompts)
        + prompts.about(catalog, product)[:read]
        for product in range(len(catalog))
        for role in (BUYER, SELLER)
    ]
    manners = (render.BUYER_TALK, environment.seller_talk(config.game.seller))
    spoken = [f" {said}" for talk in manners for variants in talk.values() for said in variants]
    # Every dialogue holds a dozen of the phrases, so they weigh as much as the products' texts.
    phrases = spoken * max(1, 12 * len(catalog) // len(spoken))
    categories = sorted({f"{category}_" for category in catalog.categories})
    return tokenizers.train([*told, *phrases], config.language.vocab_size, categories)
