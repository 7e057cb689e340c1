"""Reinforcement learning from the latest checkpoint to the last iteration; only finite iterations are saved."""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import math
import os
import time

import jax

from negot_jax.config import field, require_least
from negot_jax.rl.losses import Metrics
from negot_jax.rl.rollout import Trajectory
from negot_jax.rl.self_play import SELLERS, SelfPlay, SelfPlayState
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import NOTHING_FROZEN, Frozen, Program
from negot_jax.rl.updates import TrainState
from negot_jax.roofline import estimate
from negot_jax.training import distributed, preemption, steps, storage
from negot_jax.training.checkpoint import Checkpoints, Folder
from negot_jax.training.metrics import MetricWriter, reduce

_SHOWN = ("reward", "deal_rate", "bargained_ratio", "first_offer_ratio", "overshoot/mi")
# In the order in which one bad quantity spoils the next.
_WATCHED = {"sampler_gap": "sampling gap", "reward": "reward", "loss": "loss", "grad_norm": "gradient norm"}
_OF_EITHER = ("sampled_tokens", "padding_efficiency", "skipped_in_a_row")  # What self-play reports of either learner.
_SAMPLE = "sample"  # Among the metrics of an iteration, so that one fetch brings both.


class NotFiniteError(Exception):
    """Training cannot go on, or ended, with numbers that are not finite; the message says which."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long to train, and how often to checkpoint."""

    iterations: int = field(200, "iterations of rollout and update")
    checkpoint_every: int = field(50, "iterations between checkpoints; the last one is always kept")
    keep: int = field(3, "latest checkpoints to keep, besides the best")
    max_skipped_updates: int = field(10, "stop the run after this many updates in a row were skipped as not finite")
    transcripts_every: int = field(10, "iterations between samples of episodes in transcripts/; 0 for none")

    def __post_init__(self):
        require_least("training", self, 1, "iterations checkpoint_every keep max_skipped_updates")
        require_least("training", self, 0, "transcripts_every")


@dataclasses.dataclass(frozen=True)
class Watched:
    """What is looked at on the way. profile: the first and the last iteration to trace into `profile/`. keep: receives
    an iteration and the sample of its episodes, on the host, every `transcripts_every` iterations; on every process.
    """

    profile: tuple[int, int] | None = None
    keep: Callable[[int, Trajectory], None] = lambda iteration, sample: None


_NOTHING = Watched()


def train(
    config: TrainingConfig,
    program: Program | SelfPlay,
    state: TrainState | SelfPlayState,
    tables: Tables,
    folder: Folder,
    frozen: Frozen = NOTHING_FROZEN,
    watched: Watched = _NOTHING,
) -> TrainState | SelfPlayState:
    """Runs the remaining iterations and returns the last state. Every process of a run makes the same call.

    state: where a new run begins; a run with checkpoints resumes from its latest, bit for bit as if it had never
    stopped. folder: the run's; gets `checkpoints/`, `metrics.csv` and `tensorboard/`.

    Raises:
      Preempted: a signal came. The state is saved after the current iteration, the same one on every process.
      NotFiniteError: too many updates in a row were not finite, or the last iteration's metrics are not.
      CheckpointError: no checkpoint can be read, or the latest belongs to another model or run.
      OSError: something could not be written. What was committed before stays.
    """
    first = distributed.is_first()
    # Of self-play no checkpoint is best: what one side earns the other one loses.
    best = None if isinstance(program, SelfPlay) else "reward"
    with preemption.noted(distributed.agree) as came, Checkpoints(folder / "checkpoints", config.keep, best) as saved:
        with steps.starting("restoring the latest checkpoint"):
            done, state = saved.restore(state) or (0, state)
        if watched.profile and watched.profile[1] < done:
            print(f"Nothing is traced: iterations {watched.profile[0]} to {watched.profile[1]} are trained already.")
        with (
            MetricWriter(folder.path, config.iterations, done, _SHOWN) if first else contextlib.nullcontext() as writer,
            contextlib.closing(
                _Profiler(os.path.join(folder.path, "profile"), watched.profile if first else None)
            ) as profiler,
        ):
            job = _Training(config, program, tables, frozen, saved, writer, profiler, watched.keep)
            return steps.run(job, state, range(done, config.iterations), config.checkpoint_every, came)


@dataclasses.dataclass
class _Training:
    """The job of reinforcement learning: see `steps.Job`."""

    config: TrainingConfig
    program: Program | SelfPlay
    tables: Tables
    frozen: Frozen
    checkpoints: Checkpoints
    writer: MetricWriter | None
    profiler: "_Profiler"
    keep: Callable[[int, Trajectory], None]
    scalars: Mapping[str, float] = dataclasses.field(default_factory=dict)
    clock: float = dataclasses.field(default_factory=time.perf_counter)
    name: str = "train_step"

    def step(self, iteration: int, state: TrainState | SelfPlayState) -> tuple[TrainState | SelfPlayState, Metrics]:
        self.profiler.at(iteration, state)
        state, metrics, sample = self.program.step(iteration, state, self.tables, self.frozen)
        every = self.config.transcripts_every
        return state, metrics | ({_SAMPLE: sample} if every and iteration % every == 0 else {})

    def look(self, iteration: int, metrics: dict, when: float) -> None:
        if (sample := metrics.pop(_SAMPLE, None)) is not None:
            self.keep(iteration, sample)
        elapsed, self.clock = when - self.clock, when
        programs = self.program.programs if isinstance(self.program, SelfPlay) else [self.program]
        rates = [
            throughput(program, metrics[f"{side}padding_efficiency"][0], metrics[f"{side}sampled_tokens"][0], elapsed)
            for side, program in zip(("", SELLERS), programs, strict=False)
            if f"{side}sampled_tokens" in metrics
        ]
        metrics = {name: metrics[f"{SELLERS}{name}"] for name in _OF_EITHER if name not in metrics} | metrics
        scalars = reduce(metrics) | {name: sum(rate[name] for rate in rates) for name in rates[0]}
        scalars["perf/step_seconds"] = elapsed
        if self.writer:
            self.writer.write(iteration, scalars)
        require_progress(iteration, scalars, self.config.max_skipped_updates)
        if scalars.get("grad_norm") == 0 and self.scalars.get("grad_norm") != 0 and distributed.is_first():
            print(f"iteration {iteration}: no gradient; every episode of each group earned the same.")
        self.scalars = scalars

    def save(self, done: int, state: TrainState) -> None:
        """Checkpoints the state if its metrics are finite."""
        if not _first_bad(self.scalars):
            quality = {name: value for name, value in self.scalars.items() if name == "reward"}
            self.checkpoints.save(done, state, quality)
        elif done == self.config.iterations:
            saved = "No checkpoint was saved before it."
            if latest := self.checkpoints.latest:
                saved = f"The latest checkpoint is {latest}; experiments.evaluate reports on it."
            raise NotFiniteError(
                f"iteration {done - 1}, the last, is not saved. First quantity that is not finite: "
                f"{_first_bad(self.scalars)}. {saved}"
            )


class _Profiler:
    """Traces iterations from dispatch to completion. window: first and last, None for none."""

    def __init__(self, folder: str, window: tuple[int, int] | None):
        self._folder, self._window, self._running = folder, window, False
        self._trace = contextlib.ExitStack()

    def at(self, iteration: int, state: TrainState) -> None:
        """Call it before an iteration is dispatched, with the state that it starts from."""
        if self._window and not self._running and self._window[0] <= iteration <= self._window[1]:
            jax.block_until_ready(state)
            folder = self._trace.enter_context(storage.staged(self._folder))
            jax.profiler.start_trace(str(folder))
            self._trace.callback(jax.profiler.stop_trace)
            self._running = True
        elif self._running and iteration > self._window[1]:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        self._trace.close()
        self._running = False


def workload(program: Program) -> estimate.Workload:
    """The learner's iteration, as `negot_jax.roofline` counts it."""
    config, algorithm = program.config, program.algorithm
    rescored = algorithm.rescores + (algorithm.kl != "none")
    return estimate.Workload(program.model, config.scenarios, config.group, config.epochs, rescored)


def throughput(program: Program, tokens: float, sampled: float, seconds: float) -> dict[str, float]:
    """Per second, a learner's episodes, the tokens of their contexts and those that it sampled; and model FLOPs
    utilization on devices whose peak is known.
    """
    done = {"episodes": workload(program).episodes, "tokens": float(tokens), "sampled_tokens": float(sampled)}
    found = {f"perf/{name}_per_second": count / seconds for name, count in done.items()}
    if chip := estimate.CHIPS.get(jax.devices()[0].device_kind):
        peak = chip.flops * jax.device_count()
        found["perf/mfu"] = estimate.per_iteration(workload(program), float(tokens), float(sampled)) / (seconds * peak)
    return found


def _first_bad(scalars: Mapping[str, float]) -> str | None:
    """The first watched quantity that is not finite; one without a value in this iteration does not count."""
    watched = [(f"{side}{metric}", f"{side}{name}") for side in ("", SELLERS) for metric, name in _WATCHED.items()]
    return next((name for metric, name in watched if not math.isfinite(scalars.get(metric, 0.0))), None)


def require_progress(iteration: int, scalars: Mapping[str, float], max_skipped_updates: int) -> None:
    """Raises NotFiniteError after `max_skipped_updates` skipped updates in a row; names the first bad quantity."""
    skipped = max(int(value) for name, value in scalars.items() if name.endswith("skipped_in_a_row"))
    if skipped >= max_skipped_updates:
        bad = _first_bad(scalars) or "weights"  # Where all else is finite, what the update would have made is not.
        raise NotFiniteError(
            f"iteration {iteration}: the last {skipped} updates were skipped because they were not finite "
            f"(training.max_skipped_updates={max_skipped_updates}). First bad quantity: {bad}. The same command would "
            "end here again: change the configuration, such as optimizer.learning_rate, and use another --workdir."
        )
