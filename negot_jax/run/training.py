"""Training a run: warm start, then reinforcement learning, from wherever its folder says that it is."""

import functools
from typing import TYPE_CHECKING

import jax

from negot_jax.evaluation import episodes, recording, rows
from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import sharding, transformer
from negot_jax.models.transformer import Weights
from negot_jax.rl.rollout import Trajectory
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Frozen
from negot_jax.run import reporting, weights
from negot_jax.training import distributed, loop, storage
from negot_jax.training.checkpoint import Folder
from negot_jax.training.warm_start import warm_start

if TYPE_CHECKING:
    from negot_jax.run.run import Run

TRANSCRIPTS = "transcripts"  # In the workdir: a file of episodes for each iteration that was sampled.


def train(run: "Run", profile: tuple[int, int] | None = None) -> None:
    """Warm start, unless it is done, and the loop; on the current mesh.

    Args:
      profile: the first and the last iteration to trace into `profile/` of the run's folder.
    """
    parts, program = run.parts, run.parts.program
    whole, seller = sharding.shard((weights.init_buyer(parts), weights.init_seller(parts)))
    tables = sharding.shard(parts.train_tables)
    trained = program.trained(whole)
    total, own = map(transformer.parameter_count, (whole, trained))
    print(f"{total:,} parameters" + (f", of which {own:,} are trained" if own < total else ""))
    base = weights.base(parts, whole)
    if parts.clones_seller:
        seller = _warm_start(run, SELLER, seller, tables)
    if parts.config.warm_start.steps:
        trained = _warm_start(run, BUYER, whole, tables)
    frozen = Frozen(base=base, opponent=seller, reference=weights.reference(parts, trained))
    state = sharding.shard(program.init_state(jax.random.fold_in(parts.key, 2), {**whole, **trained}))
    watched = loop.Watched(profile, functools.partial(_keep, run))
    loop.train(parts.config.training, program, state, tables, Folder(run.workdir, run.run_id), frozen, watched)


def _keep(run: "Run", iteration: int, sample: Trajectory) -> None:
    """Writes a sample of an iteration's episodes, in the same format as a report's."""
    if not distributed.is_first():
        return
    parts, buyer = run.parts, rows.checkpoint(iteration)
    common = reporting.common(run, parts) | {"buyer": buyer}
    made = recording.record(sample, parts.train_tables, parts.train, parts.dialect.tokenizer, common)
    folder = run.workdir / TRANSCRIPTS
    folder.mkdir(parents=True, exist_ok=True)
    storage.write_atomically(folder / f"{iteration:06d}.jsonl", episodes.lines(made))


def _warm_start(run: "Run", role: int, whole: Weights, tables: Tables) -> Weights:
    """What a side's warm start has trained: read from the run's folder, or made and saved there."""
    parts, program = run.parts, run.parts.program
    path = run.workdir / (weights.WARM_START if role == BUYER else weights.WARM_START_SELLER)
    model = program.model if role == BUYER else program.opponent.model
    key = jax.random.fold_in(parts.key, 1)
    return warm_start(parts.config.warm_start, model, key, whole, tables, role, Folder(path, run.run_id))
