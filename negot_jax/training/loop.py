"""The training loop: dispatch, then look at the iteration before; checkpoint; resume.

The device never waits for the host: metrics of an iteration are fetched, by the loop's only `device_get`, after the
next one was dispatched. A checkpoint is written only once its own metrics were seen finite.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import math
import os
import time

import jax

from negot_jax.config import field
from negot_jax.rl import losses
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import NOTHING_FROZEN, Frozen, Program, train_step
from negot_jax.rl.updates import TrainState
from negot_jax.training import distributed, flops, storage
from negot_jax.training.checkpoint import Checkpoints
from negot_jax.training.metrics import MetricWriter, reduce

_SHOWN = ("reward", "deal_rate", "bargained_ratio", "first_offer_ratio", "overshoot/mi")
_STOP = "stop"  # Among the metrics of an iteration, so that one fetch brings both.
# In the order in which one bad quantity spoils the next.
_WATCHED = {"sampler_gap": "sampling gap", "reward": "reward", "loss": "loss", "grad_norm": "gradient norm"}


class NotFiniteError(Exception):
    """Training that cannot go on, or that ended, with numbers that are not finite; the message says which."""


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, and how often a checkpoint."""

    iterations: int = field(200, "iterations of rollout and update")
    checkpoint_every: int = field(50, "iterations between checkpoints; the last one is always kept")
    keep: int = field(3, "latest checkpoints that stay, besides the best")
    max_skipped_updates: int = field(10, "updates left out in a row, for not being finite, at which the run stops")

    def __post_init__(self):
        for item in dataclasses.fields(self):
            if getattr(self, item.name) < 1:
                raise ValueError(f"training.{item.name}={getattr(self, item.name)} must be at least 1.")


def train(
    config: TrainingConfig,
    program: Program,
    state: TrainState,
    tables: Tables,
    workdir: str | os.PathLike,
    run_id: str,
    frozen: Frozen = NOTHING_FROZEN,
    stop: Callable[[], bool] = lambda: False,
    profile: tuple[int, int] | None = None,
) -> TrainState:
    """Runs what is left of the iterations. All processes of a run call it alike, and the first one writes the metrics.

    Args:
      state: where a new run begins; a run with checkpoints in `workdir` goes on from its latest, bit for bit as if it
        had never stopped.
      workdir: gets `checkpoints/`, `metrics.csv` and `tensorboard/`.
      run_id: names the run that the checkpoints are of: see `manifest.run_id`.
      frozen: as in `train_step`.
      stop: asked before every iteration whether to checkpoint and return now. Among many processes that is once one of
        them is asked to, and all know: after the same iteration, at most two later.
      profile: the first and the last iteration to trace into `workdir/profile`.

    Returns:
      The last state.

    Raises:
      NotFiniteError: too many updates in a row were not finite, or the last iteration's metrics are not.
      CheckpointError: no checkpoint can be read, or the latest is of another model or run.
      OSError: something could not be written. What was committed before stays.
    """
    with Checkpoints(os.path.join(workdir, "checkpoints"), run_id, config.keep) as checkpoints:
        done = 0
        if checkpoints.latest is not None:
            done, state = checkpoints.latest, checkpoints.restore(checkpoints.latest, state)
        first, alone = distributed.is_first(), jax.process_count() == 1
        writing = MetricWriter(workdir, config.iterations, done, _SHOWN) if first else contextlib.nullcontext()
        with writing as writer, _Profiler(os.path.join(workdir, "profile"), profile if first else None) as profiler:
            clock, leave = time.perf_counter(), False
            episodes = program.config.scenarios * program.config.group

            def fetch(iteration: int, metrics: losses.Metrics) -> dict[str, float]:
                nonlocal clock, leave
                fetched = jax.device_get(metrics)
                leave = fetched.pop(_STOP, 0) > 0 or leave
                elapsed, clock = time.perf_counter() - clock, time.perf_counter()
                scalars = reduce(fetched)
                scalars["perf/step_seconds"] = elapsed
                scalars["perf/sampled_tokens_per_second"] = scalars["sampled_tokens"] / elapsed
                scalars["perf/episodes_per_second"] = episodes / elapsed
                scalars |= flops.speed(program, fetched["padding_efficiency"][0], scalars["sampled_tokens"], elapsed)
                if first:
                    writer.write(iteration, scalars)
                require_progress(iteration, scalars, config.max_skipped_updates)
                return scalars

            def commit(iteration: int, metrics: losses.Metrics) -> None:
                """Checkpoints the state after an iteration, if its metrics are finite."""
                scalars = fetch(iteration, metrics)
                if not _first_bad(scalars):
                    checkpoints.save(iteration + 1, state, {"reward": scalars["reward"]})
                elif iteration + 1 == config.iterations:
                    raise NotFiniteError(_unfinished(iteration, scalars, checkpoints.latest))

            pending = None
            while done < config.iterations and not leave:
                if (asked := stop()) and alone:
                    break
                profiler.at(done, state)
                state, metrics = train_step(program, state, tables, frozen)
                if not alone:
                    metrics[_STOP] = distributed.agree_later(asked, state.iteration)
                if pending:
                    fetch(*pending)
                pending = (done, metrics)
                done += 1
                if done % config.checkpoint_every == 0 or done == config.iterations:
                    commit(*pending)
                    pending = None
            if pending:  # Stopped between two checkpoints.
                commit(*pending)
    return state


class _Profiler:
    """Traces some iterations, from dispatch to completion. A context manager. window: first and last; None for none."""

    def __init__(self, folder: str, window: tuple[int, int] | None):
        self._folder, self._window, self._running = folder, window, False
        self._trace = contextlib.ExitStack()

    def at(self, iteration: int, state: TrainState) -> None:
        """To be called before an iteration is dispatched, with the state that it begins from."""
        if self._window and not self._running and self._window[0] <= iteration <= self._window[1]:
            jax.block_until_ready(state)
            folder = self._trace.enter_context(storage.staged(self._folder))
            jax.profiler.start_trace(str(folder))
            self._trace.callback(jax.profiler.stop_trace)
            self._running = True
        elif self._running and iteration > self._window[1]:
            jax.block_until_ready(state)
            self.__exit__()

    def __enter__(self) -> "_Profiler":
        return self

    def __exit__(self, *_) -> None:
        self._trace.close()
        self._running = False


def _first_bad(scalars: Mapping[str, float]) -> str | None:
    """The first watched quantity that is not finite; one without a value in this iteration is not bad."""
    return next((name for metric, name in _WATCHED.items() if not math.isfinite(scalars.get(metric, 0.0))), None)


def require_progress(iteration: int, scalars: Mapping[str, float], max_skipped_updates: int) -> None:
    """Raises NotFiniteError once so many updates in a row were left out; names the first bad quantity."""
    skipped = int(scalars["skipped_in_a_row"])
    if skipped >= max_skipped_updates:
        bad = _first_bad(scalars) or "weights"  # Where all else is finite, what the update would have made is not.
        raise NotFiniteError(
            f"iteration {iteration}: the last {skipped} updates were left out because they were not finite "
            f"(training.max_skipped_updates={max_skipped_updates}). First bad quantity: {bad}. The same command would "
            "end here again: change the configuration, such as optimizer.learning_rate, and use another --workdir."
        )


def _unfinished(iteration: int, scalars: Mapping[str, float], latest: int | None) -> str:
    saved = f"the latest checkpoint is {latest}; experiments.evaluate reports on it" if latest else "nothing is saved"
    return (
        f"iteration {iteration}, the last, is not saved. First quantity that is not finite: {_first_bad(scalars)}. "
        f"What came before stays: {saved}."
    )
