"""From a configuration to the parts of a run: catalog, dialect, tables, program."""

from collections.abc import Sequence
import dataclasses
import os

from etils import epath
import jax
from jax.sharding import Mesh

from negot_jax import cache
from negot_jax import catalog as catalogs
from negot_jax.catalog import Catalog
from negot_jax.game.types import BUYER, SELLER, SIDES
from negot_jax.language import grammar, hf_tokenizer, prompts, render
from negot_jax.language import tokenizer as tokenizers
from negot_jax.language.dialect import Dialect, Own, infer_chat
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.models import hf_checkpoint, hf_config, sharding
from negot_jax.models.choice import ModelChoice
from negot_jax.models.presets import ModelConfig
from negot_jax.rl.configs import BuyerConfig, SellerConfig
from negot_jax.rl.self_play import SelfPlay
from negot_jax.rl.tables import Tables, build_tables
from negot_jax.rl.train_step import FrozenModel, Program
from negot_jax.run import manifest, opponents
from negot_jax.run.config import PATHS, Config, flat, override
from negot_jax.training import storage


@dataclasses.dataclass(frozen=True)
class Parts:
    """Everything that a configuration determines, without weights.

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
    def mesh(self) -> Mesh:
        """The device mesh of the run."""
        return sharding.make(self.config.mesh, _devices(self.config, self.program.model))

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
        """Whether the warm start clones the opponent of this role's learner."""
        return (other := self.opponent(role)).model == "own" and other.checkpoint is None

    def inputs(self) -> dict[str, str]:
        """The digests that identify a run together with its configuration: see `manifest.run_id`."""
        return {
            "catalog": self.catalog_digest,
            "tokenizer": manifest.digest(self.dialect.tokenizer.model),
            **{name: opponents.digest(folder) for name, folder in checkpoints(self.config).items()},
            **{name.upper(): str(getattr(jax.config, name)) for name in manifest.RANDOM},
        }


def checkpoints(config: Config) -> dict[str, str]:
    """The checkpoints that are named, by field."""
    named = {"model": config.model, "buyer": config.buyer, "seller": config.seller}
    return {f"{name}.checkpoint": own.checkpoint for name, own in named.items() if own.checkpoint}


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

    Raises ValueError for fields of the configuration that do not fit one another, the catalog or a checkpoint.
    """
    require_backend()
    check(config)
    config = with_local_checkpoints(config)
    model = config.model.config()
    for folder in checkpoints(config).values():
        if not opponents.is_run(folder):
            hf_checkpoint.check(folder, model if folder == config.model.checkpoint else hf_config.read(folder))
    catalog = catalogs.load(config.catalog.name, config.catalog.data_dir)
    train, test = catalogs.split(catalog, config.catalog.test)
    digest = catalogs.digest(catalog)
    if config.catalog.prices == "normalized":
        train, test = catalogs.normalize(train), catalogs.normalize(test)
    devices = len(_devices(config, model)) if devices is None else devices
    sharding.require_fit(config.mesh, devices, model, _rows(config))
    dialect = make_dialect(config, model, train, vocab_size) if dialect is None else dialect
    size = dialect.tokenizer.vocab_size
    if model.vocab_size not in (None, size):
        raise ValueError(
            f"config.model.vocab_size={model.vocab_size}, but the tokenizer has {size} tokens. "
            "Leave it out; config.language.vocab_size sizes the tokenizer."
        )
    model = dataclasses.replace(model, vocab_size=size)
    roles = {"buyer": (BUYER,), "seller": (SELLER,), "both": (BUYER, SELLER)}[config.learner.role]
    met = {role: opponents.make(config, role, model, dialect) for role in roles}
    for opponent in met.values():
        if isinstance(opponent, FrozenModel):
            sharding.require_fit(config.mesh, devices, opponent.model, {})
    fixed = {"dialect": dialect, "game": config.game, "language": config.language, "seller": config.seller}
    known = None
    if config.model.checkpoint:
        known = grammar.load(dialect.tokenizer.token_bytes, cache.folder("grammar"))
    train_tables = build_tables(train, token_grammar=known, **fixed)
    test_tables = build_tables(test, token_grammar=train_tables.grammar, **fixed)
    learning = {role: dataclasses.replace(config.learner, role=SIDES[role]) for role in met}
    shared = (config.algorithm, config.sampling, config.optimizer)
    # Over its own iterations, where the sides take turns, a learning rate decays.
    due = [config.self_play.learning(number) for number in range(config.training.iterations)]
    own = {role: sum(role in roles for roles in due) for role in met}
    programs = {role: Program(model, learning[role], *shared, own[role], opponent) for role, opponent in met.items()}
    print_line(catalogs.describe(catalog, config.catalog.test))
    return Parts(config, train, test, dialect, train_tables, test_tables, programs, digest)


def check(config: Config, devices: int = 0) -> None:
    """Checks what needs no device, no data and no checkpoint from elsewhere; `assemble` checks the rest.

    devices: how many the mesh will be laid over; 0 where that is not known. A checkpoint that is not on this machine is
    taken to have the sizes of its preset, where one is named.

    Raises ValueError for fields of the configuration that do not fit one another.
    """
    config.sampling.require_full_support("sampling")
    if config.learner.role == "both" and config.self_play.alternate >= config.training.iterations:
        raise ValueError(
            f"self_play.alternate={config.self_play.alternate}: the buyer would learn in all of training.iterations="
            f"{config.training.iterations}, and the seller in none. Lower the one or raise the other."
        )
    if config.learner.group < 2 and not config.algorithm.critic:
        raise ValueError(
            f"learner.group={config.learner.group}: the baseline is the mean of a group. Use 2 episodes or more, or "
            "algorithm.advantage=gae."
        )
    choice = config.model
    if choice.checkpoint and not os.path.isdir(os.path.expanduser(choice.checkpoint)):
        choice = dataclasses.replace(choice, checkpoint=None)
        if choice.preset == ModelChoice().preset:
            return
    model = choice.config()
    if devices:
        sharding.require_fit(config.mesh, devices, model, _rows(config))


def _rows(config: Config) -> dict[str, int]:
    """What the mesh must divide."""
    return config.learner.rows() | config.warm_start.rows()


def _devices(config: Config, model: ModelConfig) -> Sequence[jax.Device]:
    return sharding.devices(config.mesh, model, _rows(config))


def require_backend() -> None:
    """Starts JAX. Raises ValueError, naming the variable, if JAX cannot compute here or would compute in 64 bits."""
    if jax.config.jax_enable_x64:
        raise ValueError("JAX_ENABLE_X64=1: runs are in float32 and int32, and nothing is tested in 64 bits. Unset it.")
    sharding.use_cores()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX only asserts that it has found a device.
        platforms, reason = os.environ.get("JAX_PLATFORMS", ""), str(error) or "there is no such device here"
        raise ValueError(f"JAX_PLATFORMS={platforms}: {reason}. Unset it, or set JAX_PLATFORMS=cpu.") from error


def with_absolute_paths(config: Config) -> Config:
    """The configuration with `~` expanded and local paths absolute, so that it means the same in another folder.

    Raises ValueError if a path is empty.
    """
    absolute, fields = {}, flat(config)
    for name, path in ((name, fields[name]) for name in PATHS if fields[name] is not None):
        if not path:
            raise ValueError(f"config.{name} is empty. Name a folder, or leave it out.")
        if not storage.is_remote(path) and os.path.exists(expanded := os.path.expanduser(path)):
            absolute[name] = os.path.abspath(expanded)
    return override(config, absolute)


def with_local_checkpoints(config: Config) -> Config:
    """The configuration, with copies on this machine in place of checkpoints in a bucket.

    Raises ValueError if there is nothing in the bucket, or a run.
    """
    copies = {}
    for name, path in checkpoints(config).items():
        if storage.is_remote(path):
            storage.require_bucket(path, f"config.{name}")
        if storage.is_remote(path) and (epath.Path(path) / manifest.FILE).exists():
            raise ValueError(
                f"config.{name}={path} is a run in a bucket. `gcloud storage cp --recursive` it to a local folder, and "
                "name that."
            )
        try:
            copies[name] = str(storage.local(path)) if storage.is_remote(path) else path
        except FileNotFoundError as error:
            raise ValueError(f"config.{name}={path}: {error}. Copy a checkpoint there.") from error
    return override(config, copies)


def make_dialect(config: Config, model: ModelConfig, train: Catalog, vocab_size: int | None = None) -> Dialect:
    """A checkpoint's tokenizer and chat format, or ours, trained on the products; arguments as in `assemble`."""
    if folder := config.model.checkpoint:
        tokenizer = hf_tokenizer.load(folder, model.vocab_size)
        return infer_chat(folder, tokenizer)
    ours = _train_tokenizer(config, train)
    return Own(ours if vocab_size is None else tokenizers.widened(ours, vocab_size))


def _train_tokenizer(config: Config, catalog: Catalog) -> Tokenizer:
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
