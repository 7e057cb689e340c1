"""Drives training steps: dispatches one, looks at the metrics of the previous one, saves regularly, stops when asked.

The device waits for the host only where a step is saved. At most one step is queued ahead.
"""

from collections.abc import Callable, Iterator
import contextlib
import time
from typing import Any, Protocol, TypeVar

import jax

from negot_jax import progress
from negot_jax.training import distributed, preemption

State = TypeVar("State")

_STOP = "stop"  # Among the metrics of a step, so that one fetch brings both.


class Job(Protocol):
    """The work of each step. name: the program that the first step compiles."""

    name: str

    def step(self, iteration: int, state: State) -> tuple[State, dict[str, Any]]:
        """Dispatches a step. Returns the next state, with its `iteration`, and metrics, all on the devices."""

    def look(self, iteration: int, metrics: dict[str, Any], when: float) -> None:
        """Receives the metrics of a step once they are on the host. when: the step was done, by `perf_counter`."""

    def save(self, done: int, state: State) -> None:
        """Saves the state after `done` steps, once `look` has seen all their metrics."""


def run(job: Job, state: State, steps: range, every: int, came: Callable[[], bool]) -> State:
    """Runs steps; saves after each multiple of `every`, after the last one and where it stops. Returns the last state.

    came: asked before each step whether to stop. If it tells any process so, all stop after the same step, at most two
    steps later.
    """
    alone = jax.process_count() == 1
    pending, leave = None, False

    def look() -> None:
        nonlocal pending, leave
        if pending:
            iteration, metrics, when = pending
            fetched = jax.device_get(metrics)
            leave = fetched.pop(_STOP, 0) > 0 or leave
            job.look(iteration, fetched, time.perf_counter() if when is None else when)
        pending = None

    for iteration in steps:
        asked = came()
        if leave or (asked and alone):
            break
        with starting(f"compiling {job.name}") if iteration == steps.start else contextlib.nullcontext():
            state, metrics = job.step(iteration, state)
        if not alone:
            metrics = metrics | {_STOP: distributed.agree_later(asked, state.iteration)}
        # A CPU has run the step by now; elsewhere it has only begun, and is done when its metrics arrive.
        when = time.perf_counter() if all(x.is_ready() for x in jax.tree.leaves(metrics)) else None
        look()
        pending = iteration, metrics, when
        if (done := iteration + 1) % every == 0 or done == steps.stop:
            look()
            job.save(done, state)
    if pending:
        look()
        job.save(done, state)
    return state


@contextlib.contextmanager
def starting(name: str) -> Iterator[None]:
    """Shows a long phase before there is anything to save; a signal ends it at once unless others would wait."""
    with progress.Bar(name), preemption.prompt() if jax.process_count() == 1 else contextlib.nullcontext():
        yield
