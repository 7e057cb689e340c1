"""Warm start: behavior cloning of scripted players, so that reinforcement learning begins with a model that can speak.

The compiled program plays and writes the dialogues, in the same columns as any rollout; a side's own tokens are the
targets. The loss covers the whole vocabulary, so a model learns the form of a message even where decoding would force
it.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import functools

from etils import epath
import jax
import jax.numpy as jnp

from negot_jax import progress
from negot_jax.config import field, require_least
from negot_jax.game import buyers, specs
from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import lora, sharding
from negot_jax.models.presets import ModelConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import losses, players, rollout, scoring
from negot_jax.rl.configs import OptimizerConfig
from negot_jax.rl.tables import Tables
from negot_jax.rl.updates import TrainState, apply_gradients, init_state
from negot_jax.training import checkpoint, distributed, preemption, steps
from negot_jax.training.checkpoint import CheckpointError, Checkpoints, DamagedError, Folder
from negot_jax.training.loop import NotFiniteError
from negot_jax.training.metrics import reduce

_MOST_SKIPPED = 10  # Updates in a row.
_NAMES = {BUYER: "warm start", SELLER: "warm start of the seller"}


@dataclasses.dataclass(frozen=True)
class WarmStartConfig:
    """What is cloned, and for how long."""

    steps: int = field(300, "updates; 0 for no warm start")
    episodes: int = field(256, "dialogues per update, each on a scenario of its own")
    micro_batches: int = field(1, "parts of an update whose gradients are accumulated, to save memory")
    widths: int = field(1, "how many lengths an update is compiled for, see learner.widths")
    buyers: tuple[str, ...] = field(
        ("linear(start=0.4, end=1.0)", "linear(start=0.5, end=1.0)", "concession", "tit_for_tat"),
        "the scripted buyers to clone, in equal parts",
    )
    optimizer: OptimizerConfig = field(
        OptimizerConfig(learning_rate=3e-3, schedule="cosine", warmup=20), "the optimizer of the warm start"
    )

    def __post_init__(self):
        require_least("warm_start", self, 0, "steps")
        require_least("warm_start", self, 1, "episodes micro_batches widths")
        if self.steps and self.episodes % self.micro_batches:
            raise ValueError(
                f"warm_start.episodes={self.episodes} do not divide into warm_start.micro_batches="
                f"{self.micro_batches} equal parts. Change one of them."
            )
        if self.steps and not self.buyers:
            raise ValueError("warm_start.buyers is empty: name a scripted buyer, or set warm_start.steps=0.")
        for spec in self.buyers:
            specs.require_named("warm_start.buyers", buyers.make, spec)

    def rows(self) -> dict[str, int]:
        """Rows of its batches, which the mesh must divide: see `sharding.require_fit`."""
        return {"warm_start.episodes / micro_batches": self.episodes // self.micro_batches} if self.steps else {}


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def clone_step(
    config: WarmStartConfig,
    model: ModelConfig,
    role: int,
    state: TrainState,
    base: Weights,
    tables: Tables,
) -> tuple[TrainState, losses.Metrics]:
    """One update on fresh dialogues. base: the frozen weights, {} where all are trained."""
    key_scenarios, key_buyers = jax.random.split(jax.random.fold_in(state.key, state.iteration))
    scenarios = sharding.shard_rows(rollout.sample_scenarios(key_scenarios, tables, config.episodes))
    policies = tuple(map(buyers.make, config.buyers))
    buyer = players.scripted_buyer(policies, tables.params.turns, key_buyers, keeps_dialogue=role == BUYER)
    seller = players.scripted_seller(tables, keeps_dialogue=role == SELLER)
    dialogues = rollout.rollout(key_buyers, tables, scenarios, 1, buyer, seller).dialogue(role)

    frozen, layout = sharding.cast_weights(base, model.products), tables.side(role).layout

    def loss(trained: Weights, part: rollout.Dialogue, width: int):
        weights = lora.join(trained, frozen)
        scores = scoring.score_messages(model, weights, layout, part, None, 1.0, width)
        return losses.masked(-scores.log_probs, part.sampled_BxKxW.reshape(scores.log_probs.shape)), {}

    (weights, opt_state, skipped), metrics = apply_gradients(
        config.optimizer.make(config.steps),
        loss,
        (state.weights, state.opt_state, state.skipped),
        dialogues,
        config.micro_batches,
        scoring.widths(layout, dialogues, config.widths),
    )
    state = state.replace(weights=weights, opt_state=opt_state, skipped=skipped, iteration=state.iteration + 1)
    metrics["skipped_in_a_row"] = (skipped.in_a_row.astype(jnp.float32), jnp.float32(1))
    return sharding.constrain(state), sharding.replicate(metrics)


def warm_start(
    config: WarmStartConfig,
    model: ModelConfig,
    key: jax.Array,
    weights: Weights,
    tables: Tables,
    role: int = BUYER,
    folder: Folder | None = None,
) -> Weights:
    """Clones a side for `config.steps` updates; of a model with adapters, only the adapters are trained.

    The result depends on the arguments alone, however often it is interrupted. The trained arrays are donated.

    Args:
      folder: where the result is kept: it is read from there, or else made and saved there. An interrupted start
        resumes from `<folder>.partial`. None keeps nothing.

    Returns:
      The trained weights.

    Raises:
      Preempted: a signal came. The completed steps are saved.
      NotFiniteError: too many updates in a row were not finite.
      CheckpointError: the folder holds the result of another model or run.
      OSError: something could not be written.
    """
    trained, base = lora.split(weights) if model.lora.rank else (weights, {})
    state = init_state(key, trained, config.optimizer.make(config.steps))
    job = _Cloning(config, model, role, tables, base)
    if folder is None:
        return _run(job, state, 0, lambda: False).weights
    partial = Folder(f"{folder.path}.partial", folder.run_id)
    if (found := _finished(folder, trained)) is None:
        with preemption.noted(distributed.agree) as came:
            with _resumed(partial, state) as (job.checkpoints, done, state):
                state = _run(job, state, done, came)
            if state.iteration == config.steps:
                checkpoint.write(folder.path, state.weights, folder.run_id)
        found = state.weights
    _remove(partial)
    return found


@dataclasses.dataclass
class _Cloning:
    """The job of a warm start: see `steps.Job`."""

    config: WarmStartConfig
    model: ModelConfig
    role: int
    tables: Tables
    base: Weights
    checkpoints: Checkpoints | None = None
    bar: progress.Bar | None = None
    name: str = "clone_step"

    def step(self, iteration: int, state: TrainState) -> tuple[TrainState, losses.Metrics]:
        return clone_step(self.config, self.model, self.role, state, self.base, self.tables)

    def look(self, iteration: int, metrics: dict, when: float) -> None:
        scalars = reduce(metrics)
        self.bar.update(scalars, ["loss"])
        if (skipped := int(scalars["skipped_in_a_row"])) >= min(_MOST_SKIPPED, self.config.steps):
            raise NotFiniteError(
                f"{_NAMES[self.role]}, step {iteration}: the last {skipped} updates were skipped because they were "
                "not finite. The same command would end here again: change the configuration, such as "
                "warm_start.optimizer.learning_rate, and use another --workdir."
            )

    def save(self, done: int, state: TrainState) -> None:
        if self.checkpoints and done < self.config.steps:
            self.checkpoints.save(done, state)


def _run(job: _Cloning, state: TrainState, done: int, came: Callable[[], bool]) -> TrainState:
    total = job.config.steps
    with progress.Bar(_NAMES[job.role], total, done) as job.bar:
        return steps.run(job, state, range(done, total), max(20, total // 10), came)


def _finished(folder: Folder, target: Weights) -> Weights | None:
    """Returns the result of an earlier start, or None if it is missing or damaged."""
    if not epath.Path(folder.path).exists():
        return None
    try:
        return checkpoint.read(folder.path, target, folder.run_id)
    except DamagedError as error:
        print(f"{error} It is made again, with the same result.")
        return None


@contextlib.contextmanager
def _resumed(folder: Folder, state: TrainState) -> Iterator[tuple[Checkpoints, int, TrainState]]:
    """Yields the checkpoints of a warm start, the completed steps and the state; removes an unusable folder."""
    opened = functools.partial(Checkpoints, folder, keep=1, best_metric=None)
    try:
        checkpoints = opened()
        found = checkpoints.restore(state)
    except CheckpointError:
        print(f"{folder.path} is damaged, or belongs to another run. The warm start begins again.")
        _remove(folder)
        checkpoints, found = opened(), None
    with checkpoints:
        yield checkpoints, *(found or (0, state))


def _remove(folder: Folder) -> None:
    if distributed.is_first() and (path := epath.Path(folder.path)).exists():
        path.rmtree()
