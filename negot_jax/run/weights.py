"""The weights of a run: where they begin, what of them is frozen, and how they come back from its folder."""

import dataclasses
import itertools

from etils import epath
import jax
import jax.numpy as jnp

from negot_jax.models import hf_checkpoint, lora, sharding, transformer
from negot_jax.models.transformer import Weights
from negot_jax.rl.train_step import Frozen, TrainState
from negot_jax.run.assembly import Parts
from negot_jax.training import checkpoint
from negot_jax.training.checkpoint import CheckpointError, DamagedError

# In the workdir.
CHECKPOINTS = "checkpoints"
WARM_START, WARM_START_SELLER = "warm_start", "warm_start_seller"


def init_buyer(parts: Parts) -> Weights:
    """All weights that the buyer begins with: a checkpoint's or random ones, and fresh adapters."""
    model, folder = parts.program.model, parts.config.model.checkpoint
    key = jax.random.fold_in(parts.key, 0)
    if folder is None:
        return transformer.init(key, model)
    # Trained weights are kept in float32: bfloat16 would lose small updates.
    weights = hf_checkpoint.load(folder, model, dtype=None if model.lora.rank else "float32")
    return transformer.with_adapters(key, model, weights)


def init_seller(parts: Parts) -> Weights | None:
    """The weights of a seller of its own: a checkpoint's, or random ones for the warm start; None without one."""
    if parts.config.seller.model != "own":
        return None
    model = parts.program.opponent.model
    if parts.clones_seller:
        return transformer.init(jax.random.fold_in(parts.key, 3), model)
    return hf_checkpoint.load(parts.config.seller.checkpoint, model)


def base(parts: Parts, weights: Weights) -> Weights | None:
    """`Frozen.base`, from the weights as `init_buyer` made them; None where nothing reads it.

    Without adapters it is a copy, since training donates its own arrays; a checkpoint's keeps its stored type.
    """
    if parts.program.model.lora.rank:
        return lora.split(weights)[1]
    if parts.config.seller.model != "base":
        return None
    if folder := parts.config.model.checkpoint:
        return hf_checkpoint.load(folder, parts.program.model)
    return jax.tree.map(jnp.copy, weights)


def reference(parts: Parts, trained: Weights) -> Weights | None:
    """`Frozen.reference`, a copy of what is trained before the first update; None where the base is the reference."""
    config = parts.config
    is_base = config.warm_start.steps == 0 and (parts.program.model.lora.rank > 0 or config.seller.model == "base")
    needed = config.algorithm.kl != "none" and not is_base
    return jax.tree.map(jnp.copy, trained) if needed else None


@dataclasses.dataclass(frozen=True)
class Saved:
    """A run as its folder holds it. start: what was trained before reinforcement learning, and its name. states: the
    checkpoints read, by iteration, the latest last.
    """

    start_name: str
    start: Weights
    frozen: Frozen
    states: dict[int, TrainState]

    @property
    def latest(self) -> int:
        return max(self.states)


def restore(parts: Parts, workdir: epath.Path, run_id: str, every_checkpoint: bool = False) -> Saved:
    """Reads the latest whole checkpoint, or every one. Changes nothing: the run may still be training.

    Raises:
      CheckpointError: there is no whole checkpoint, or it is of another model or run.
    """
    program, (weights, seller) = parts.program, sharding.shard((init_buyer(parts), init_seller(parts)))
    if parts.clones_seller:
        seller = _read_warm_start(workdir / WARM_START_SELLER, seller, run_id)
    frozen = Frozen(base=base(parts, weights), opponent=seller)
    name, start = "untrained", program.trained(weights)
    if parts.config.warm_start.steps:
        name, start = "warm start", _read_warm_start(workdir / WARM_START, start, run_id)
    target = sharding.shard(program.init_state(parts.key, weights))
    found = checkpoint.readable(workdir / CHECKPOINTS, target, run_id)
    states = dict(found if every_checkpoint else itertools.islice(found, 1))
    if not states:
        raise CheckpointError(f"{workdir / CHECKPOINTS} is empty: the run has not reached its first checkpoint yet.")
    return Saved(name, start, frozen, dict(sorted(states.items())))


def _read_warm_start(path: epath.Path, target: Weights, run_id: str) -> Weights:
    try:
        return checkpoint.read(path, target, run_id)
    except DamagedError as error:
        raise CheckpointError(f"{error} The training command makes it again.") from error
