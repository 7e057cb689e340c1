"""The training loop: dispatch, then look at the iteration before; checkpoint; resume.

The device never waits for the host: metrics of an iteration are fetched, by the loop's only `device_get`, after the
next one was dispatched. A checkpoint is written only once its own metrics were seen finite.
"""

import dataclasses
import math
import os
import time

import jax

from negot_jax.config import field
from negot_jax.rl import learner
from negot_jax.rl.environment import Environment
from negot_jax.training.checkpoint import Checkpoints
from negot_jax.training.metrics import MetricWriter, reduce

_SHOWN = ("reward", "deal_rate", "bargained_ratio", "first_offer_ratio", "overshoot/mi")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, and how often a checkpoint."""

    iterations: int = field(200, "iterations of rollout and update")
    checkpoint_every: int = field(50, "iterations between checkpoints; the last one is always kept")
    keep: int = field(3, "latest checkpoints that stay, besides the best")

    def __post_init__(self):
        for name in ("iterations", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name}={getattr(self, name)} must be at least 1.")


def train(
    config: TrainingConfig,
    statics: learner.Learner,
    state: learner.TrainState,
    env: Environment,
    workdir: str | os.PathLike,
) -> learner.TrainState:
    """Runs what is left of the iterations.

    Args:
      state: where a new run begins; a run with checkpoints in `workdir` goes on from its latest, bit for bit as if it
        had never stopped.
      workdir: gets `checkpoints/`, `metrics.csv` and `tensorboard/`.
    Returns:
      The last state.
    """
    with Checkpoints(os.path.join(workdir, "checkpoints"), config.keep) as checkpoints:
        start = 0
        if checkpoints.latest is not None:
            state, host = checkpoints.restore(checkpoints.latest, state)
            start = host["next_iteration"]
        with MetricWriter(workdir, config.iterations, start, _SHOWN) as writer:
            clock = time.perf_counter()
            episodes = statics.config.scenarios * statics.config.group

            def fetch(iteration: int, metrics: learner.Metrics) -> dict[str, float]:
                nonlocal clock
                fetched = jax.device_get(metrics)
                elapsed, clock = time.perf_counter() - clock, time.perf_counter()
                scalars = reduce(fetched)
                scalars["perf/step_seconds"] = elapsed
                scalars["perf/buyer_tokens_per_second"] = scalars["buyer_tokens"] / elapsed
                scalars["perf/episodes_per_second"] = episodes / elapsed
                writer.write(iteration, scalars)
                return scalars

            pending = None
            for iteration in range(start, config.iterations):
                state, metrics = learner.train_step(statics, state, env)
                if pending:
                    fetch(*pending)
                pending = (iteration, metrics)
                done = iteration + 1
                if done % config.checkpoint_every == 0 or done == config.iterations:
                    scalars, pending = fetch(*pending), None
                    if all(math.isfinite(scalars[name]) for name in ("loss", "grad_norm")):
                        checkpoints.save(done, state, {"reward": scalars["reward"]}, {"next_iteration": done})
    return state
