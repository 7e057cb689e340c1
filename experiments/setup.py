"""From a configuration to the parts of a run: catalogue, tokenizer, tables, model, program."""

import dataclasses
import functools
import os
import pathlib
from typing import Literal

import jax
import jax.numpy as jnp

from negot_jax import catalog as catalogs
from negot_jax.catalog import Catalog
from negot_jax.config import field
from negot_jax.evaluation.arena import EvaluationConfig
from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import chat, grammar_cache, hf_tokenizer, prompts, render
from negot_jax.language import tokenizer as tokenizers
from negot_jax.language.dialect import Chat, Dialect, Own
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.models import hf_checkpoint, hf_config, lora, sharding, transformer
from negot_jax.models.choice import ModelChoice
from negot_jax.models.presets import ModelConfig
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.sharding import MeshConfig
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.configs import GameConfig, LanguageConfig, LearnerConfig, OptimizerConfig, SellerConfig
from negot_jax.rl.tables import Tables, build_tables
from negot_jax.rl.train_step import FrozenModel, Program
from negot_jax.training import storage
from negot_jax.training.loop import TrainingConfig
from negot_jax.training.warm_start import WarmStartConfig

# In the workdir.
TOKENIZER = "tokenizer.model"  # Where the model brings none.
WARM_START, WARM_START_SELLER = "warm_start", "warm_start_seller"
_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "negot_jax"


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
    model: ModelChoice = field(ModelChoice(), "the buyer's language model")
    seller: SellerConfig = field(SellerConfig(), "who sells")
    mesh: MeshConfig = field(MeshConfig(), "how models and batches are spread over the devices")
    warm_start: WarmStartConfig = field(WarmStartConfig(), "behaviour cloning before reinforcement learning")
    sampling: SamplingConfig = field(SamplingConfig(), "how the buyer draws its tokens in training")
    learner: LearnerConfig = field(LearnerConfig(), "one iteration of reinforcement learning")
    algorithm: AlgorithmConfig = field(AlgorithmConfig(), "what its episodes teach")
    optimizer: OptimizerConfig = field(OptimizerConfig(), "the optimizer of reinforcement learning")
    training: TrainingConfig = field(TrainingConfig(), "length and checkpoints")
    evaluation: EvaluationConfig = field(EvaluationConfig(), "what the report plays")

    def __post_init__(self):
        if not 0 <= self.seed < 2**32:  # What a key is made of; beyond it, seeds would repeat.
            raise ValueError(f"seed={self.seed} must be from 0 to {2**32 - 1}.")


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a run. train, test: catalogues, and the environments made of them."""

    config: Config
    train: Catalog
    test: Catalog
    dialect: Dialect
    train_tables: Tables
    test_tables: Tables
    program: Program

    @property
    def key(self) -> jax.Array:
        return jax.random.key(self.config.seed)

    @property
    def clones_seller(self) -> bool:
        """Whether the warm start has to make the seller."""
        return self.config.seller.model == "own" and self.config.seller.checkpoint is None

    def init_weights(self) -> transformer.Weights:
        """All weights that the buyer begins with: a checkpoint's, or random ones; and fresh adapters."""
        model, folder = self.program.model, self.config.model.checkpoint
        key = jax.random.fold_in(self.key, 0)
        if folder is None:
            return transformer.init(key, model)
        # What is trained is kept in float32: small updates would be lost in bfloat16.
        weights = hf_checkpoint.load(folder, model, dtype=None if model.lora.rank else "float32")
        return transformer.with_adapters(key, model, weights)

    def init_seller(self) -> transformer.Weights | None:
        """The weights of a seller of its own: a checkpoint's, or random ones for the warm start; None without one."""
        if self.config.seller.model != "own":
            return None
        if self.clones_seller:
            return transformer.init(jax.random.fold_in(self.key, 3), self.program.opponent.model)
        return hf_checkpoint.load(self.config.seller.checkpoint, self.program.opponent.model)

    def base(self, weights: transformer.Weights) -> transformer.Weights | None:
        """What `Frozen.base` is, of the weights as `init_weights` made them; None where nothing reads it.

        Of a model without adapters a copy, since training gives its own arrays up; a checkpoint's in its own type.
        """
        if self.program.model.lora.rank:
            return lora.split(weights)[1]
        if self.config.seller.model != "base":
            return None
        if folder := self.config.model.checkpoint:
            return hf_checkpoint.load(folder, self.program.model)
        return jax.tree.map(jnp.copy, weights)

    def reference(self, trained: transformer.Weights) -> transformer.Weights | None:
        """What `Frozen.reference` is, a copy of what is trained as reinforcement learning begins; None for the base."""
        is_base = self.config.warm_start.steps == 0 and (
            self.program.model.lora.rank > 0 or self.config.seller.model == "base"
        )
        needed = self.config.algorithm.kl != "none" and not is_base
        return jax.tree.map(jnp.copy, trained) if needed else None


def prepare(
    config: Config,
    workdir: pathlib.Path,
    print_line=print,
    devices: int | None = None,
    vocab_size: int | None = None,
) -> Run:
    """Builds a run, with the workdir's tokenizer, or a new one where there is none yet. Writes nothing there.

    Args:
      devices: how many it is for; by default those that there are.
      vocab_size: a tokenizer of ours is given so many tokens, those that are missing without bytes: a model of a
        published size can then be built, though not trained, without its checkpoint.

    Raises:
      ValueError: fields of the configuration that do not fit one another, the catalogue or a checkpoint.
    """
    config = with_local_checkpoints(config)
    model = config.model.config()
    catalog = catalogs.load(config.catalog.name, data_dir=config.catalog.data_dir)
    print_line(catalogs.describe(catalog, config.catalog.test))
    if config.catalog.prices == "normalised":
        catalog = catalogs.normalise(catalog)
    train, test = catalogs.split(catalog, config.catalog.test)
    devices = jax.device_count() if devices is None else devices
    sharding.require_fit(config.mesh, devices, model, config.learner.rows() | config.warm_start.rows())
    dialect = make_dialect(config, model, train, workdir, vocab_size)
    size = dialect.tokenizer.vocab_size
    if model.vocab_size not in (None, size):
        raise ValueError(
            f"config.model.vocab_size={model.vocab_size}, but the tokenizer has {size} tokens. "
            "Leave it out; config.language.vocab_size sizes the tokenizer."
        )
    model = dataclasses.replace(model, vocab_size=size)
    build = functools.partial(
        build_tables, dialect=dialect, game=config.game, language=config.language, seller=config.seller
    )
    seller = make_seller(config, model, dialect)
    if seller is not None:
        sharding.require_fit(config.mesh, devices, seller.model, {})
    known = grammar_cache.load(dialect.tokenizer.token_bytes, _CACHE) if config.model.checkpoint else None
    train_tables = build(train, token_grammar=known)
    program = Program(
        model,
        config.learner,
        config.algorithm,
        config.sampling,
        config.optimizer,
        config.training.iterations,
        seller,
    )
    return Run(config, train, test, dialect, train_tables, build(test, token_grammar=train_tables.grammar), program)


def with_local_checkpoints(config: Config) -> Config:
    """The configuration, with copies on this machine in place of checkpoints in a bucket.

    Raises:
      ValueError: there is nothing in the bucket.
    """

    def local(part, name: str):
        try:
            copy = part.checkpoint and str(storage.local(part.checkpoint, _CACHE / "checkpoints"))
        except FileNotFoundError as error:
            raise ValueError(f"{name}.checkpoint={part.checkpoint}: {error}. Copy a checkpoint there.") from error
        return dataclasses.replace(part, checkpoint=copy)

    return dataclasses.replace(config, model=local(config.model, "model"), seller=local(config.seller, "seller"))


def make_dialect(
    config: Config, model: ModelConfig, train: Catalog, workdir: pathlib.Path, vocab_size: int | None = None
) -> Dialect:
    """The tokenizer and how it is spoken in: a checkpoint's own, or one of ours; arguments as in `prepare`."""
    if folder := config.model.checkpoint:
        tokenizer = hf_tokenizer.load(folder, model.vocab_size)
        return Chat(tokenizer, chat.infer(folder, tokenizer))
    path = workdir / TOKENIZER
    ours = tokenizers.load(path) if path.exists() else train_tokenizer(train, config)
    return Own(ours if vocab_size is None else tokenizers.widened(ours, vocab_size))


def make_seller(config: Config, model: ModelConfig, dialect: Dialect) -> FrozenModel | None:
    """The language model that sells, if one does.

    Raises:
      ValueError: its checkpoint is of another tokenizer than the buyer's.
    """
    own, folder = config.seller, config.seller.checkpoint
    if own.model == "scripted":
        return None
    base = dataclasses.replace(model, lora=dataclasses.replace(model.lora, rank=0))
    if folder is None:
        return FrozenModel(base, own.sampling, shared=own.model == "base")
    theirs = dataclasses.replace(hf_config.read(folder), remat="none")
    spoken = hf_tokenizer.load(folder, theirs.vocab_size).token_bytes
    common = min(theirs.vocab_size, dialect.tokenizer.vocab_size)
    if (
        any(spoken[common:])
        or any(dialect.tokenizer.token_bytes[common:])
        or (spoken[:common] != dialect.tokenizer.token_bytes[:common])
    ):
        raise ValueError(
            f"seller.checkpoint={folder} has another tokenizer than the buyer's, but both read the same tokens. Use a "
            "checkpoint of the same family."
        )
    return FrozenModel(theirs, own.sampling, shared=False)


def train_tokenizer(catalog: Catalog, config: Config) -> Tokenizer:
    """A tokenizer for what will be said: prompts, product texts, and the scripted sides' phrases."""
    read = 4 * config.language.text_tokens  # Of a product's text, in characters: about what a prompt will hold.
    told = [
        prompts.rules(catalog, product, role, config.game.turns, config.language.prompts)
        + prompts.about(catalog, product)[:read]
        for product in range(len(catalog))
        for role in (BUYER, SELLER)
    ]
    manners = (render.BUYER_TALK, render.SELLER_TALK[config.game.persona])
    spoken = [f" {said}" for talk in manners for variants in talk.values() for said in variants]
    # Every dialogue holds a dozen of the phrases, so they weigh as much as the products' texts.
    phrases = spoken * max(1, 12 * len(catalog) // len(spoken))
    categories = sorted({f"{category}_" for category in catalog.categories})
    return tokenizers.train([*told, *phrases], config.language.vocab_size, categories)
