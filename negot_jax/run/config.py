"""The configuration of a run: its sources, the fields that identify the run, and those that may change later."""

from collections.abc import Mapping
import dataclasses
import os
import runpy
import traceback
from typing import Any, Literal

from flax import traverse_util
from ml_collections import config_dict

from negot_jax import config as schema
from negot_jax.config import field
from negot_jax.evaluation.arena import EvaluationConfig
from negot_jax.models.choice import ModelChoice
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.sharding import MeshConfig
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.configs import BuyerConfig, GameConfig, LanguageConfig, LearnerConfig, OptimizerConfig, SellerConfig
from negot_jax.rl.self_play import SelfPlayConfig
from negot_jax.training.loop import TrainingConfig
from negot_jax.training.warm_start import WarmStartConfig


@dataclasses.dataclass(frozen=True)
class CatalogConfig:
    """The products."""

    name: Literal["generated", "uniform", "amazon_history_price", "file"] = field(
        "generated", "'generated' needs no files; nor does 'uniform', the textbook's independent uniform values"
    )
    data_dir: str | None = field(
        None, "amazon_history_price: folder of its JSON files (downloaded if unset); file: your CSV, JSON or JSONL file"
    )
    prices: Literal["dollars", "normalized"] = field(
        "dollars", "'normalized' states prices in percent of the list price, which is then $100"
    )
    test: int = field(128, "held-out products")


@dataclasses.dataclass(frozen=True)
class Config:
    """A run from catalog to report."""

    seed: int = field(0, "seed of everything random")
    catalog: CatalogConfig = field(CatalogConfig(), "the products")
    game: GameConfig = field(GameConfig(), "the rules and the seller")
    language: LanguageConfig = field(LanguageConfig(), "prompts and messages")
    model: ModelChoice = field(ModelChoice(), "the learner's language model")
    buyer: BuyerConfig = field(BuyerConfig(), "who buys, where the seller learns")
    seller: SellerConfig = field(SellerConfig(), "who sells")
    mesh: MeshConfig = field(MeshConfig(), "how models and batches are sharded over the devices")
    warm_start: WarmStartConfig = field(WarmStartConfig(), "behavior cloning before reinforcement learning")
    sampling: SamplingConfig = field(SamplingConfig(), "how the learner samples its tokens in training")
    learner: LearnerConfig = field(LearnerConfig(), "one iteration of reinforcement learning")
    self_play: SelfPlayConfig = field(SelfPlayConfig(), "whom each side meets, where both learn")
    algorithm: AlgorithmConfig = field(AlgorithmConfig(), "the objective")
    optimizer: OptimizerConfig = field(OptimizerConfig(), "the optimizer of reinforcement learning")
    training: TrainingConfig = field(TrainingConfig(), "length and checkpoints")
    evaluation: EvaluationConfig = field(EvaluationConfig(), "what the report plays")

    def __post_init__(self):
        if not 0 <= self.seed < 2**32:  # A key holds 32 bits; larger seeds would repeat.
            raise ValueError(f"seed={self.seed} must be from 0 to {2**32 - 1}.")


# A run may change these at any later start.
_TRAINING = ("checkpoint_every", "keep", "max_skipped_updates", "transcripts_every")
_FREE = ("mesh", "evaluation", *(f"training.{name}" for name in _TRAINING))
# Where to find an input. Its content identifies the run, by a digest in the manifest.
PATHS = ("catalog.data_dir", "model.checkpoint", "buyer.checkpoint", "seller.checkpoint")
# What an evaluation may set otherwise than the run that trained the buyer.
EVALUATED = ("catalog", "game", "language", "buyer", "seller", "mesh", "evaluation", "model.checkpoint")


def load(config: Any) -> Config:
    """A configuration from a `Config`, a `ConfigDict`, a mapping (nested, or flat with dotted names), or the path of a
    Python file with `get_config()`, to which `path:argument` passes an argument.

    Raises ValueError or TypeError if a field is unknown or has a wrong value, or the file cannot be run.
    """
    if isinstance(config, Config):
        return config
    if isinstance(config, str | os.PathLike):
        config = read_file(os.fspath(config))
    if isinstance(config, config_dict.ConfigDict):
        return schema.replace(Config(), config)
    return override(Config(), config)


def read_file(value: str) -> config_dict.ConfigDict:
    """What `get_config()` of a configuration file returns; "path:argument" passes it an argument."""
    path, *argument = value.split(":", 1)
    if not os.path.isfile(path):
        raise ValueError(f"--config={value}: there is no file {path}")
    try:
        get_config = runpy.run_path(path).get("get_config")
        made = get_config and get_config(*argument)
    except Exception as error:  # The file is the user's program and may raise anything.
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        where = f" in line {lines[-1]}" if lines else ""
        raise ValueError(f"--config={value}: {type(error).__name__}{where}: {error}") from error
    if get_config is None:
        raise ValueError(f"--config={value} has no get_config(). Define it, as experiments/configs/quickstart.py does.")
    if not isinstance(made, config_dict.ConfigDict):
        raise ValueError(f"--config={value}: get_config() returned a {type(made).__name__}, not a ConfigDict")
    return made


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with some fields set; keys are nested mappings or dotted names such as "game.seller"."""
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise TypeError(f"a configuration is a file, or a mapping from names to values, not {values!r:.80}")
    fields = traverse_util.flatten_dict(dict(values), sep=".")
    return schema.replace(config, traverse_util.unflatten_dict(fields, sep="."))


def flat(config: Config) -> dict[str, Any]:
    """Every field by its dotted name, as JSON reads it back (tuples are lists)."""
    fields = traverse_util.flatten_dict(dataclasses.asdict(config), sep=".")
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def within(name: str, fields: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of `fields` or lies in a section that is."""
    return any(name == field or name.startswith(f"{field}.") for field in fields)


def identity(config: Config) -> dict[str, Any]:
    """The fields that a run learns from, by dotted name: no later start may change them.

    Inputs outside the run's folder count by content, not by path: see `manifest.run_id`.
    """
    others = free(config)
    return {name: value for name, value in flat(config).items() if name not in others}


def free(config: Config) -> dict[str, Any]:
    """The other fields, which any later start may change, by dotted name."""
    # A schedule decays over the iterations of the run.
    more = ("training.iterations",) if config.optimizer.schedule == "constant" else ()
    return {name: value for name, value in flat(config).items() if within(name, (*_FREE, *more, *PATHS))}
