"""Checkpoints of a run: the device state and a few host-side facts, committed together by Orbax."""

from collections.abc import Mapping
import math
import os
from typing import Any, TypeVar

from etils import epath
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

State = TypeVar("State")


class Checkpoints:
    """The checkpoints in one directory, by iteration: the last `keep` of them, and the best.

    Args:
      directory: made if it is not there.
      keep: how many of the latest checkpoints stay.
      best_metric: the metric whose largest value marks the best checkpoint, which stays as well.
    """

    def __init__(self, directory: str | os.PathLike, keep: int = 3, best_metric: str = "reward"):
        self.directory = epath.Path(directory).absolute()
        self._best_metric = best_metric
        policies = [
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(get_metric_fn=self._quality, n=1),
        ]
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                best_fn=self._quality,
                cleanup_tmp_directories=True,  # what an interrupted save left behind
            ),
        )

    @property
    def latest(self) -> int | None:
        """The iteration of the latest checkpoint, None where there is none."""
        return self._manager.latest_step()

    @property
    def best(self) -> int | None:
        """The iteration of the checkpoint with the largest `best_metric`, None where there is none."""
        return self._manager.best_step()

    def save(self, iteration: int, state: Any, metrics: Mapping[str, float], host: Mapping[str, Any]) -> None:
        """Starts a save and returns once the state is copied off the devices, so that it may be donated.

        Args:
          iteration: names the checkpoint; one that exists already is an error.
          state: a pytree of arrays, typed PRNG keys among them.
          metrics: floats by name; must hold `best_metric`.
          host: facts for JSON, such as the next iteration to run.
        """
        if self._best_metric not in metrics:
            raise ValueError(f"checkpoint {iteration}: metrics {sorted(metrics)} lack {self._best_metric!r}")
        self._manager.save(
            iteration,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                host=ocp.args.JsonSave({"host": dict(host), "leaves": _leaves(state)}),
            ),
            metrics={name: float(value) for name, value in metrics.items()},
        )

    def restore(self, iteration: int, target: State) -> tuple[State, dict[str, Any]]:
        """Returns the state and the host-side facts of one checkpoint, such as `latest` or `best`.

        Args:
          iteration: which checkpoint.
          target: a pytree of arrays or of `jax.ShapeDtypeStruct` with the shardings to restore to.

        Raises:
          ValueError: the checkpoint's tree is not the target's; the first leaf that differs is named.
        """
        saved = self._manager.restore(iteration, args=ocp.args.Composite(host=ocp.args.JsonRestore())).host
        expected = _leaves(target)
        for path in sorted({*saved["leaves"], *expected}):
            there, here = saved["leaves"].get(path, "no such leaf"), expected.get(path, "no such leaf")
            if there != here:
                raise ValueError(
                    f"{self.directory / str(iteration)} does not fit this model: state{path} is {there} in the "
                    f"checkpoint and {here} here. Restore with the configuration it was saved with."
                )
        restored = self._manager.restore(iteration, args=ocp.args.Composite(state=ocp.args.StandardRestore(target)))
        return restored.state, saved["host"]

    def wait(self) -> None:
        """Blocks until every started save is committed."""
        self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Commits every started save and frees the threads."""
        self._manager.close()

    def _quality(self, metrics: Mapping[str, float]) -> float:
        value = metrics[self._best_metric]
        return value if math.isfinite(value) else -math.inf  # nan would leave the order undefined


def _leaves(tree: Any) -> dict[str, str]:
    """Returns dtype and shape of each leaf by its path; a typed key's dtype names its generator."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in flat}
