"""Training a run: warm start, then reinforcement learning, resuming from what its folder holds."""

import functools
from typing import TYPE_CHECKING

import jax

from negot_jax.evaluation import episodes, recording
from negot_jax.models import sharding, transformer
from negot_jax.models.transformer import Weights
from negot_jax.rl.rollout import Trajectory
from negot_jax.rl.self_play import SelfPlay
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Frozen
from negot_jax.run import reporting, weights
from negot_jax.training import distributed, loop, storage
from negot_jax.training.checkpoint import Folder
from negot_jax.training.warm_start import warm_start

if TYPE_CHECKING:
    from negot_jax.run.run import Run

TRANSCRIPTS = "transcripts"  # In the workdir.


def train(run: "Run", profile: tuple[int, int] | None = None) -> None:
    """Warm start, unless it is done, and the loop; on the current mesh. profile: as in `Run.train`."""
    parts, learner = run.parts, run.parts.learner
    tables = sharding.shard(parts.train_tables)
    whole = sharding.shard({role: weights.init_learner(parts, role) for role in parts.programs})
    trained = {role: parts.programs[role].trained(own) for role, own in whole.items()}
    total, own = map(transformer.parameter_count, (whole, trained))
    start = parts.config.model.checkpoint or f"random weights ({parts.config.model.preset})"
    print(f"{total:,} parameters" + (f", of which {own:,} are trained" if own < total else "") + f", from {start}")
    if (model := parts.program.model).experts and parts.program.updates > 1 and not model.replay_experts:
        print(
            f"A mixture of experts with {parts.program.updates} updates per iteration: the later ones may send tokens "
            "to other experts than sampling did (sampler_rerouted). --config.model.replay_experts prevents it."
        )
    base, opponent = weights.base(parts, next(iter(whole.values()))), None
    if len(whole) == 1:
        opponent = sharding.shard(weights.init_opponent(parts, parts.program.role))
        if parts.clones_opponent(parts.program.role):
            opponent = _warm_start(run, 1 - parts.program.role, opponent, tables)
    if parts.config.warm_start.steps:
        trained = {role: _warm_start(run, role, own, tables) for role, own in whole.items()}
    frozen = Frozen(base=base, opponent=opponent, reference=weights.reference(parts, next(iter(trained.values()))))
    start = weights.for_learner({role: {**own, **trained[role]} for role, own in whole.items()})
    state = sharding.shard(learner.init_state(jax.random.fold_in(parts.key, 2), start))
    watched = loop.Watched(profile, functools.partial(_keep, run))
    loop.train(parts.config.training, learner, state, tables, Folder(run.workdir, run.run_id), frozen, watched)


def _keep(run: "Run", iteration: int, sample: Trajectory) -> None:
    """Writes a sample of an iteration's episodes into `transcripts/`, in the same format as a report's."""
    parts, row = run.parts, episodes.checkpoint_row(iteration)
    learner = parts.learner
    role = learner.settings.learning(iteration)[0] if isinstance(learner, SelfPlay) else learner.role
    common = reporting.common(run, parts.config, run.saved["inputs"], role, row)
    # On every process: within the mesh, what it computes is computed by all.
    made = recording.record(sample, parts.train_tables, parts.train, parts.dialect.tokenizer, common)
    if distributed.is_first():
        folder = run.workdir / TRANSCRIPTS
        folder.mkdir(parents=True, exist_ok=True)
        storage.write_atomically(folder / f"{iteration:06d}.jsonl", episodes.lines(made))


def _warm_start(run: "Run", role: int, whole: Weights, tables: Tables) -> Weights:
    """What a side's warm start has trained: read from the run's folder, or made and saved there."""
    parts, program = run.parts, run.parts.program
    path = run.workdir / weights.warm_start_folder(parts, role)
    model = program.model if role in parts.programs else program.opponent.model
    key = jax.random.fold_in(parts.key, 1)
    return warm_start(parts.config.warm_start, model, key, whole, tables, role, Folder(path, run.run_id))
