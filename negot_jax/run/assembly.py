"""From a configuration to the parts of a run: catalog, dialect, tables, program."""

from collections.abc import Sequence
import dataclasses
import functools
import os

import jax

from negot_jax import cache
from negot_jax import catalog as catalogs
from negot_jax.catalog import Catalog
from negot_jax.game import buyers
from negot_jax.game.buyers import Buyer
from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import chat, grammar_cache, hf_tokenizer, prompts, render
from negot_jax.language import tokenizer as tokenizers
from negot_jax.language.dialect import Chat, Dialect, Own
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.models import hf_checkpoint, hf_config, sharding, stored
from negot_jax.models.presets import ModelConfig
from negot_jax.rl.configs import BuyerConfig, SellerConfig
from negot_jax.rl.self_play import SelfPlay, SelfPlayConfig
from negot_jax.rl.tables import Tables, build_tables
from negot_jax.rl.train_step import FrozenModel, Program
from negot_jax.run import manifest
from negot_jax.run.config import PATHS, Config, override
from negot_jax.training import checkpoint, storage

TOKENIZER = "tokenizer.model"  # In the workdir, where the model brings none.


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a configuration comes to, without weights.

    train, test: the products of the split; train_tables, test_tables: made of them. catalog_digest: of all products
    as they were read. programs: by the role that learns; in self-play there are two.
    """

    config: Config
    train: Catalog
    test: Catalog
    dialect: Dialect
    train_tables: Tables
    test_tables: Tables
    programs: dict[int, Program]
    catalog_digest: str

    @property
    def key(self) -> jax.Array:
        return jax.random.key(self.config.seed)

    @property
    def program(self) -> Program:
        """The buyer's, or of a run in which the seller alone learns, the seller's."""
        return next(iter(self.programs.values()))

    @property
    def learner(self) -> Program | SelfPlay:
        """What takes the training steps."""
        if len(self.programs) == 1:
            return self.program
        return SelfPlay((self.programs[BUYER], self.programs[SELLER]), self.config.self_play)

    def opponent(self, role: int) -> BuyerConfig | SellerConfig:
        """Who plays against a learner of this role."""
        return self.config.seller if role == BUYER else self.config.buyer

    def clones_opponent(self, role: int) -> bool:
        """Whether the warm start makes that player."""
        return (other := self.opponent(role)).model == "own" and other.checkpoint is None

    def inputs(self) -> dict[str, str]:
        """The digests that identify a run together with its configuration: see `manifest.run_id`."""
        folders = {
            "model.checkpoint": self.config.model.checkpoint,
            "buyer.checkpoint": self.config.buyer.checkpoint,
            "seller.checkpoint": self.config.seller.checkpoint,
        }
        return {
            "catalog": self.catalog_digest,
            "tokenizer": manifest.digest(self.dialect.tokenizer.model),
            **{name: _digest(folder) for name, folder in folders.items() if folder},
            **manifest.random_inputs(),
        }


def assemble(
    config: Config,
    dialect: Dialect | None = None,
    *,
    print_line=print,
    devices: int | None = None,
    vocab_size: int | None = None,
) -> Parts:
    """Builds the parts of a run. Writes nothing but caches.

    Args:
      dialect: the one that the model was trained with; None makes it.
      devices: how many the mesh is laid over; by default those that there are.
      vocab_size: pads a tokenizer of ours to so many tokens, the added ones without bytes: a model of a published
        size can then be built, though not trained, without its checkpoint.

    Raises:
      ValueError: fields of the configuration that do not fit one another, the catalog or a checkpoint.
    """
    require_backend()
    config = with_local_checkpoints(config)
    model = config.model.config()
    for folder in (config.model.checkpoint, config.buyer.checkpoint, config.seller.checkpoint):
        if folder and not is_run(folder):
            hf_checkpoint.check(folder, model if folder == config.model.checkpoint else hf_config.read(folder))
    catalog = catalogs.load(config.catalog.name, config.catalog.data_dir)
    train, test = catalogs.split(catalog, config.catalog.test)
    digest = catalogs.digest(catalog)
    if config.catalog.prices == "normalized":
        train, test = catalogs.normalize(train), catalogs.normalize(test)
    devices = jax.device_count() if devices is None else devices
    sharding.require_fit(config.mesh, devices, model, config.learner.rows() | config.warm_start.rows())
    dialect = make_dialect(config, model, train, vocab_size) if dialect is None else dialect
    size = dialect.tokenizer.vocab_size
    if model.vocab_size not in (None, size):
        raise ValueError(
            f"config.model.vocab_size={model.vocab_size}, but the tokenizer has {size} tokens. "
            "Leave it out; config.language.vocab_size sizes the tokenizer."
        )
    model = dataclasses.replace(model, vocab_size=size)
    roles = {"buyer": (BUYER,), "seller": (SELLER,), "both": (BUYER, SELLER)}[config.learner.role]
    opponents = {role: make_opponent(config, role, model, dialect) for role in roles}
    for opponent in opponents.values():
        if isinstance(opponent, FrozenModel):
            sharding.require_fit(config.mesh, devices, opponent.model, {})
    build = functools.partial(
        build_tables, dialect=dialect, game=config.game, language=config.language, seller=config.seller
    )
    known = None
    if config.model.checkpoint:
        known = grammar_cache.load(dialect.tokenizer.token_bytes, cache.folder("grammar"))
    train_tables = build(train, token_grammar=known)
    test_tables = build(test, token_grammar=train_tables.grammar)
    programs = {
        role: Program(
            model,
            dataclasses.replace(config.learner, role=("buyer", "seller")[role]),
            config.algorithm,
            config.sampling,
            config.optimizer,
            config.training.iterations,
            opponent,
        )
        for role, opponent in opponents.items()
    }
    print_line(catalogs.describe(catalog, config.catalog.test))
    return Parts(config, train, test, dialect, train_tables, test_tables, programs, digest)


def require_seats(config: Config) -> None:
    """Raises ValueError for a run whose learners are not in their seats, or a section that nobody would read."""
    role, learns = config.learner.role, {"buyer": config.buyer, "seller": config.seller}
    if role == "buyer":
        if config.buyer != BuyerConfig():
            raise ValueError("config.buyer says whom a seller meets, but learner.role='buyer'. Leave config.buyer out.")
        return _require_self_play(config)
    for side in ("buyer", "seller") if role == "both" else ("seller",):
        if (own := learns[side]).model != "own" or own.checkpoint:
            raise ValueError(
                f"learner.role={role!r} with {side}.model={own.model!r}, {side}.checkpoint={own.checkpoint!r}: the "
                f"{side} learns. Set {side}.model='own' without a checkpoint; config.model is its language model."
            )
    return _require_self_play(config)


def _require_self_play(config: Config) -> None:
    if config.learner.role != "both" and config.self_play != SelfPlayConfig():
        raise ValueError(
            f"config.self_play is read where both sides learn, but learner.role={config.learner.role!r}. Leave it out."
        )


def is_run(folder: str) -> bool:
    """Whether a folder is a run's, not a checkpoint's."""
    return os.path.exists(os.path.join(folder, manifest.FILE))


def _digest(folder: str) -> str:
    """Of what a checkpoint, or the latest one of a run, holds."""
    if not is_run(folder):
        return stored.digest(folder)
    latest = max(checkpoint.survey(os.path.join(folder, "checkpoints"))[0], default=0)
    return manifest.digest(f"{manifest.read(folder)['run_id']} after {latest}".encode())


def require_backend() -> None:
    """Raises ValueError, naming the environment variable, if JAX cannot compute here or would compute otherwise."""
    if jax.config.jax_enable_x64:
        raise ValueError("JAX_ENABLE_X64=1: runs are in float32 and int32, and nothing is tested in 64 bits. Unset it.")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX only asserts that it has found a device.
        platforms, reason = os.environ.get("JAX_PLATFORMS", ""), str(error) or "there is no such device here"
        raise ValueError(f"JAX_PLATFORMS={platforms}: {reason}. Unset it, or set JAX_PLATFORMS=cpu.") from error


def with_absolute_paths(config: Config) -> Config:
    """The configuration with `~` expanded and local paths absolute, so that it means the same in another folder.

    Raises:
      ValueError: a path is empty.
    """
    absolute = {}
    for name in PATHS:
        section, leaf = name.split(".")
        if (path := getattr(getattr(config, section), leaf)) is None:
            continue
        if not path:
            raise ValueError(f"config.{name} is empty. Name a folder, or leave it out.")
        if not storage.is_remote(path) and os.path.exists(expanded := os.path.expanduser(path)):
            absolute[name] = os.path.abspath(expanded)
    return override(config, absolute)


def with_local_checkpoints(config: Config) -> Config:
    """The configuration, with copies on this machine in place of checkpoints in a bucket.

    Raises:
      ValueError: there is nothing in the bucket.
    """
    copies = {}
    for name in ("model.checkpoint", "buyer.checkpoint", "seller.checkpoint"):
        section, leaf = name.split(".")
        path = getattr(getattr(config, section), leaf)
        if path and storage.is_remote(path):
            try:
                copies[name] = str(storage.local(path))
            except FileNotFoundError as error:
                raise ValueError(f"config.{name}={path}: {error}. Copy a checkpoint there.") from error
    return override(config, copies)


def make_dialect(config: Config, model: ModelConfig, train: Catalog, vocab_size: int | None = None) -> Dialect:
    """A checkpoint's tokenizer and chat format, or ours, trained on the products; arguments as in `assemble`."""
    if folder := config.model.checkpoint:
        tokenizer = hf_tokenizer.load(folder, model.vocab_size)
        return Chat(tokenizer, chat.infer(folder, tokenizer))
    ours = train_tokenizer(config, train)
    return Own(ours if vocab_size is None else tokenizers.widened(ours, vocab_size))


def make_opponent(
    config: Config, role: int, model: ModelConfig, dialect: Dialect
) -> FrozenModel | tuple[Buyer, ...] | None:
    """Who plays against a learner of a role, as `Program.opponent`.

    Raises:
      ValueError: its checkpoint has another tokenizer than the learner's, or is a run that has not trained its side.
    """
    side, own = ("seller", config.seller) if role == BUYER else ("buyer", config.buyer)
    if own.model == "scripted":
        return None if role == BUYER else tuple(map(buyers.make, own.policies))
    if own.model == "own" and config.learner.role == "both" and own.checkpoint is None:
        return FrozenModel(model, own.sampling, shared=False)
    base = dataclasses.replace(model, lora=dataclasses.replace(model.lora, rank=0))
    if (folder := own.checkpoint) is None:
        return FrozenModel(base, own.sampling, shared=own.model == "base")
    if is_run(folder):
        theirs, spoken = _model_of_run(folder, side)
    else:
        theirs = hf_config.read(folder)
        spoken = hf_tokenizer.load(folder, theirs.vocab_size).token_bytes
    ours = dialect.tokenizer.token_bytes
    common = min(len(spoken), len(ours))
    if any(spoken[common:]) or any(ours[common:]) or spoken[:common] != ours[:common]:
        raise ValueError(
            f"{side}.checkpoint={folder} has another tokenizer than the learner's, but both read the same tokens. Use "
            "a checkpoint of the same family, or a run on the same catalog and language."
        )
    return FrozenModel(dataclasses.replace(theirs, remat="none"), own.sampling, shared=False)


def _model_of_run(folder: str, side: str) -> tuple[ModelConfig, Sequence[bytes]]:
    """A run's language model, adapters merged, and its tokens."""
    config = override(Config(), manifest.read(folder)["config"])
    if config.learner.role not in (side, "both"):
        raise ValueError(
            f"{side}.checkpoint={folder} is a run that has trained no {side}: its learner.role is "
            f"{config.learner.role!r}. Name a run in which the {side} learns, or a checkpoint."
        )
    model = config.model.config()
    if (path := config.model.checkpoint) is None:
        tokenizer = tokenizers.load(os.path.join(folder, TOKENIZER))
    else:
        tokenizer = hf_tokenizer.load(path, model.vocab_size)
    plain = dataclasses.replace(model.lora, rank=0)
    return dataclasses.replace(model, vocab_size=tokenizer.vocab_size, lora=plain), tokenizer.token_bytes


def train_tokenizer(config: Config, catalog: Catalog) -> Tokenizer:
    """A tokenizer for what will be said: prompts, product texts, and the scripted players' phrases."""
    read = 4 * config.language.text_tokens  # Of a product's text, in characters: about what a prompt will hold.
    told = [
        prompts.rules(catalog, product, role, config.game.turns, config.language.prompts)
        + prompts.about(catalog, product)[:read]
        for product in range(len(catalog))
        for role in (BUYER, SELLER)
    ]
    manners = [render.BUYER_TALK, config.game.persona.talk]
    if config.game.hears:
        manners += [render.BUYER_ARGUMENTS, config.game.persona.hints]
    spoken = [f" {said}" for talk in manners for variants in talk.values() for said in variants]
    # Every dialogue holds a dozen of the phrases, so they weigh as much as the products' texts.
    phrases = spoken * max(1, 12 * len(catalog) // len(spoken))
    categories = sorted({f"{category}_" for category in catalog.categories})
    return tokenizers.train([*told, *phrases], config.language.vocab_size, categories)
