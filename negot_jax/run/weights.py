"""The weights of a run: initial, frozen, and restored from its folder."""

import dataclasses
import itertools
import os

from etils import epath
import jax
import jax.numpy as jnp

from negot_jax.game.types import BUYER, SELLER, SIDES
from negot_jax.language import tokenizer as tokenizers
from negot_jax.language.dialect import Own
from negot_jax.models import hf_checkpoint, lora, sharding, transformer
from negot_jax.models.sharding import MeshConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl.self_play import SelfPlayState
from negot_jax.rl.train_step import Frozen, FrozenModel, Program, TrainState
from negot_jax.run import assembly, manifest, opponents
from negot_jax.run.assembly import Parts
from negot_jax.run.config import Config, override
from negot_jax.training import checkpoint
from negot_jax.training.checkpoint import CheckpointError, DamagedError

# In the workdir.
CHECKPOINTS = "checkpoints"
WARM_STARTS = ("warm_start", "warm_start_buyer", "warm_start_seller")


def warm_start_folder(parts: Parts, role: int) -> str:
    """In the workdir, what the warm start of a side has made: the first learner's, or another's."""
    return WARM_STARTS[0] if role == parts.program.role else WARM_STARTS[1 + role]


def init_learner(parts: Parts, role: int | None = None) -> Weights:
    """All weights that a learner, by default the first, begins with: a checkpoint's or random ones; fresh adapters."""
    model, folder = parts.program.model, parts.config.model.checkpoint
    first = role is None or role == parts.program.role
    key = jax.random.fold_in(parts.key, 0 if first else 3)
    if folder is None:
        # Two learners with adapters have one base.
        made = transformer.init(jax.random.fold_in(parts.key, 0) if model.lora.rank else key, model)
        return transformer.with_adapters(key, model, made)
    # Trained weights are kept in float32: bfloat16 would lose small updates.
    weights = hf_checkpoint.load(folder, model, dtype=None if model.lora.rank else "float32")
    return transformer.with_adapters(key, model, weights)


def init_opponent(parts: Parts, role: int) -> Weights | None:
    """The weights of the model that plays against a learner of a role: a checkpoint's, a run's, or random ones for the
    warm start; None where it has none of its own.
    """
    other, own = parts.programs[role].opponent, parts.opponent(role)
    if not isinstance(other, FrozenModel) or other.shared:
        return None
    if own.checkpoint is None:
        return transformer.init(jax.random.fold_in(parts.key, 3), other.model)
    if opponents.is_run(own.checkpoint):
        return _of_run(own.checkpoint, 1 - role)
    return hf_checkpoint.load(own.checkpoint, other.model)


def base(parts: Parts, weights: Weights) -> Weights | None:
    """`Frozen.base`, from the weights as `init_learner` made them; None where nothing reads it.

    Without adapters it is a copy, since training donates its own arrays; a checkpoint's keeps its stored type.
    """
    if parts.program.model.lora.rank:
        return lora.split(weights)[1]
    if not _shares_base(parts):
        return None
    if folder := parts.config.model.checkpoint:
        return hf_checkpoint.load(folder, parts.program.model)
    return jax.tree.map(jnp.copy, weights)


def reference(parts: Parts, trained: Weights) -> Weights | None:
    """`Frozen.reference`, a copy of what is trained before the first update; None where the base is the reference."""
    config = parts.config
    is_base = config.warm_start.steps == 0 and (parts.program.model.lora.rank > 0 or _shares_base(parts))
    needed = config.algorithm.kl != "none" and not is_base
    return jax.tree.map(jnp.copy, trained) if needed else None


def _shares_base(parts: Parts) -> bool:
    return any(parts.opponent(role).model == "base" for role in parts.programs)


@dataclasses.dataclass(frozen=True)
class Saved:
    """A run as its folder holds it. starts: what was trained before reinforcement learning, by role, and its name.
    states: the checkpoints read, by iteration, the latest last. frozen: without opponents that learn.
    """

    start_name: str
    starts: dict[int, Weights]
    frozen: Frozen
    states: dict[int, TrainState | SelfPlayState]

    @property
    def latest(self) -> int:
        return max(self.states)

    def trained(self, role: int, iteration: int | None = None) -> Weights:
        """What is trained of a learner, by default at the latest checkpoint."""
        state = self.states[self.latest if iteration is None else iteration]
        return state.weights[role] if isinstance(state, SelfPlayState) else state.weights


def restore(parts: Parts, workdir: epath.Path, run_id: str, every_checkpoint: bool = False) -> Saved:
    """Reads the latest whole checkpoint, or every one. Changes nothing: the run may still be training.

    Raises CheckpointError if there is no whole checkpoint, or it is of another model or run.
    """
    whole = sharding.shard({role: init_learner(parts, role) for role in parts.programs})
    target = sharding.shard(parts.learner.init_state(parts.key, for_learner(whole)))
    found = checkpoint.readable(workdir / CHECKPOINTS, target, run_id)
    states = dict(found if every_checkpoint else itertools.islice(found, 1))
    if not states:
        raise CheckpointError(f"{workdir / CHECKPOINTS} is empty: the run has not reached its first checkpoint yet.")

    def read_warm_start(role: int, target: Weights) -> Weights:
        try:
            return checkpoint.read(workdir / warm_start_folder(parts, role), target, run_id)
        except DamagedError as error:
            raise CheckpointError(f"{error} The training command makes it again.") from error

    opponent, first = None, parts.program.role
    if len(whole) == 1:
        opponent = sharding.shard(init_opponent(parts, first))
        if parts.clones_opponent(first):
            opponent = read_warm_start(1 - first, opponent)
    frozen = Frozen(base=base(parts, whole[first]), opponent=opponent)
    name, starts = "untrained", {role: parts.program.trained(own) for role, own in whole.items()}
    if parts.config.warm_start.steps:
        name, starts = "warm start", {role: read_warm_start(role, own) for role, own in starts.items()}
    return Saved(name, starts, frozen, dict(sorted(states.items())))


def against(parts: Parts, saved: Saved, role: int) -> Frozen:
    """What is frozen where a learner of this role plays; in self-play the other side is at its latest."""
    if len(parts.programs) == 1:
        return saved.frozen
    learned = parts.clones_opponent(role)
    opponent = saved.trained(1 - role) if learned else sharding.shard(init_opponent(parts, role))
    return saved.frozen.replace(opponent=opponent)


def for_learner(weights: dict[int, Weights]) -> Weights | tuple[Weights, Weights]:
    """Weights by role as `init_state` of the run's learner takes them."""
    return (weights[BUYER], weights[SELLER]) if len(weights) > 1 else next(iter(weights.values()))


def _of_run(folder: str, role: int) -> Weights:
    """All weights of the language model on a side of another run, learned or met, merged.

    Raises CheckpointError as `restore`, or for an input that is not that run's.
    """
    saved = manifest.read(folder)
    # It is read onto the current mesh, not onto its own.
    config = dataclasses.replace(override(Config(), saved["config"]), mesh=MeshConfig())
    path = os.path.join(folder, opponents.TOKENIZER)
    dialect = Own(tokenizers.load(path)) if config.model.checkpoint is None else None
    try:
        parts = assembly.assemble(config, dialect, print_line=lambda line: None, devices=1)
        manifest.require_inputs(folder, saved, parts.inputs())
    except ValueError as error:
        raise CheckpointError(f"{SIDES[role]}.checkpoint={folder} cannot be rebuilt: {error}") from error
    found = restore(parts, epath.Path(folder), saved["run_id"])
    if role not in parts.programs:
        return parts.program.opponent.weights(found.frozen)
    return merged(parts.programs[role], found.trained(role), found.frozen)


def merged(program: Program, trained: Weights, frozen: Frozen) -> Weights:
    """A learner's language model alone, adapters merged into their matrices."""
    whole = program.whole(trained, frozen)
    whole = lora.merge(program.model.lora, whole) if program.model.lora.rank else whole
    return {name: whole[name] for name in ("ends", "blocks")}
