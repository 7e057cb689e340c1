"""Checkpoints: the device state, and which run and model it is of, committed together by Orbax.

The last file of a checkpoint, `SHA256SUMS`, lists the digest of every other, and is committed with them. So a file that
was torn, lost or changed later is found before anything is read, whichever it is; `sha256sum --check` reads it as well.
"""

from collections.abc import Iterator, Mapping
import contextlib
import hashlib
import json
import math
import os
import re
from typing import Any, TypeVar

from etils import epath
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from negot_jax.training import distributed, storage

State = TypeVar("State")

_SUMS = "SHA256SUMS"
_METADATA = "_CHECKPOINT_METADATA"
_UNLISTED = (_SUMS, _METADATA, "commit_success.txt")  # Orbax writes the time of the commit while it commits.
_ASIDE = ".damaged"  # Ends the name of a damaged checkpoint that was put aside.


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message names it and the way out."""


def damage(path: str | os.PathLike) -> str | None:
    """Says which file of a checkpoint is not as it was saved, None where every one is."""
    path = epath.Path(path)
    if not (path / _SUMS).exists():
        return f"it has no {_SUMS}"
    lines = (path / _SUMS).read_bytes().decode(errors="replace").splitlines()
    saved = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines]
    if not saved or not all(saved):
        return f"its file {_SUMS} cannot be read"
    saved, found = {line[2]: line[1] for line in saved}, _sums(path)
    for name in sorted({*saved, *found}):
        if saved.get(name) != found.get(name):
            return f"its file {name} is {'missing' if name not in found else 'not what was saved'}"
    try:
        json.loads((path / _METADATA).read_text())["item_handlers"]
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return f"its file {_METADATA} cannot be read"
    return None


def survey(directory: str | os.PathLike) -> tuple[list[int], dict[int, str]]:
    """Looks through a run's checkpoints. Returns the iterations of the whole ones, and what is wrong with the others.

    Raises:
      CheckpointError: there are checkpoints, and none is whole. Going on would start anew over what was saved.
    """
    directory = epath.Path(directory)
    names = [path.name for path in directory.iterdir()] if directory.exists() else []
    # In a bucket an unfinished one has its own name already; it was never saved, and Orbax takes it away.
    finished = [name for name in names if name.isdigit() and ocp.utils.is_checkpoint_finalized(directory / name)]
    iterations = sorted(map(int, finished))
    found = {iteration: damage(directory / str(iteration)) for iteration in iterations}
    damaged = {iteration: reason for iteration, reason in found.items() if reason}
    whole = [iteration for iteration in found if iteration not in damaged]
    aside = [name for name in names if name.endswith(_ASIDE)]
    if not whole and (damaged or aside):
        told = [f"{iteration} ({reason})" for iteration, reason in damaged.items()] + sorted(aside)
        raise CheckpointError(
            f"no checkpoint in {directory} can be read: {', '.join(told)}. Put a copy back, or start anew with another "
            "--workdir."
        )
    return whole, damaged


def read(path: str | os.PathLike, target: State, run_id: str) -> State:
    """Returns the state of one checkpoint that is not damaged.

    Args:
      target: a pytree of arrays or of `jax.ShapeDtypeStruct` with the shardings to restore to.
      run_id: names the run that the checkpoint must be of: see `manifest.run_id`.

    Raises:
      CheckpointError: the checkpoint's tree is not the target's, the first leaf that differs is named; or it is of
        another run.
    """
    path = _absolute(path)
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        facts = checkpointer.restore(path, args=ocp.args.Composite(facts=ocp.args.JsonRestore())).facts
        expected = _leaves(target)
        for name in sorted({*facts["leaves"], *expected}):
            there, here = facts["leaves"].get(name, "no such leaf"), expected.get(name, "no such leaf")
            if there != here:
                raise CheckpointError(
                    f"{path} does not fit this model: state{name} is {there} in the checkpoint and {here} here. "
                    "Restore with the configuration it was saved with."
                )
        if facts["run_id"] != run_id:
            raise CheckpointError(
                f"{path} is of another run: {facts['run_id']} in the checkpoint, {run_id} by configuration, catalogue "
                "and tokenizer. Restore with those it was saved with, or use another --workdir."
            )
        return checkpointer.restore(path, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))).state


def write(path: str | os.PathLike, state: Any, run_id: str) -> None:
    """Writes one checkpoint, in place of what is at `path`; it is committed when this returns.

    Raises:
      OSError: it could not be written.
    """
    path = _absolute(path)
    with _tensorstore_errors(path):
        options = ocp.AsyncOptions(post_finalization_callback=lambda: _seal(path))
        with ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(), async_options=options) as checkpointer:
            checkpointer.save(path, args=_items(state, run_id), force=True)


class Checkpoints:
    """The checkpoints in one directory, by iteration: the last `keep` of them, and the best.

    Damaged ones are put aside and told of, one line each, so that the latest is always one that can be read. All
    processes of a run make the same calls.

    Args:
      directory: made if it is not there; a folder that all processes of the run reach, or gs://. No other run may
        write to it.
      run_id: names the run that they are of: see `manifest.run_id`.
      keep: how many of the latest checkpoints stay.
      best_metric: the metric whose largest value marks the best checkpoint, which stays as well.

    Raises:
      CheckpointError: there are checkpoints, and none is whole.
    """

    def __init__(self, directory: str | os.PathLike, run_id: str, keep: int = 3, best_metric: str = "reward"):
        self.directory = _absolute(directory)
        self._run_id, self._best_metric = run_id, best_metric
        self._saving = None
        if distributed.is_first():
            self._put_damaged_aside()
        distributed.wait("damaged checkpoints are put aside")
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
                async_options=ocp.AsyncOptions(post_finalization_callback=lambda: _seal(self._saving)),
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

    def save(self, iteration: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Starts a save and returns once the state is copied off the devices, so that it may be donated.

        Args:
          iteration: names the checkpoint; one that exists already is an error.
          state: a pytree of arrays, typed PRNG keys among them.
          metrics: floats by name; must hold `best_metric`.

        Raises:
          OSError: this save or the one before could not be written. What was committed earlier is not touched.
        """
        if self._best_metric not in metrics:
            raise ValueError(f"checkpoint {iteration}: metrics {sorted(metrics)} lack {self._best_metric!r}")
        self.wait()  # As the manager would; the path is what this save is sealed by.
        with _tensorstore_errors(self.directory):
            self._saving = self.directory / str(iteration)
            self._manager.save(
                iteration,
                args=_items(state, self._run_id),
                metrics={name: float(value) for name, value in metrics.items()},
            )

    def restore(self, iteration: int, target: State) -> State:
        """Reads one checkpoint, such as `latest` or `best`: see `read`."""
        return read(self.directory / str(iteration), target, self._run_id)

    def wait(self) -> None:
        """Blocks until every started save is committed. Raises OSError as `save` does."""
        with _tensorstore_errors(self.directory):
            self._manager.wait_until_finished()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Commits every started save and frees the threads. Raises OSError as `save` does."""
        with _tensorstore_errors(self.directory):
            self._manager.close()

    def _put_damaged_aside(self) -> None:
        whole, damaged = survey(self.directory)
        for iteration, reason in damaged.items():
            path, aside = self.directory / str(iteration), self.directory / f"{iteration}{_ASIDE}"
            if aside.exists():
                aside.rmtree()
            path.rename(aside)
            print(f"{path} is damaged: {reason}. Put aside as {aside.name}; the latest whole one is {whole[-1]}.")

    def _quality(self, metrics: Mapping[str, float]) -> float:
        value = metrics[self._best_metric]
        return value if math.isfinite(value) else -math.inf  # nan would leave the order undefined


def _items(state: Any, run_id: str) -> ocp.args.Composite:
    facts = {"run_id": run_id, "leaves": _leaves(state)}
    return ocp.args.Composite(state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(facts))


def _leaves(tree: Any) -> dict[str, str]:
    """Returns dtype and shape of each leaf by its path; a typed key's dtype names its generator."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in flat}


def _absolute(path: str | os.PathLike) -> epath.Path:
    """As Orbax needs it. Of a bucket every path is, and `absolute` would not know it."""
    path = epath.Path(path)
    return path if storage.is_remote(path) else path.absolute()


def _seal(path: epath.Path) -> None:
    """Lists the digests of a checkpoint that is about to be committed, once all processes have written their parts.

    Orbax calls this on one process. Where it can rename a folder as one act, the checkpoint has another name till then.
    """
    unfinished = path.parent / f"{path.name}.orbax-checkpoint-tmp"
    folder = unfinished if unfinished.exists() else path
    (folder / _SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(_sums(folder).items())))


def _sums(path: epath.Path) -> dict[str, str]:
    """SHA-256 of each file by its name relative to `path`."""
    sums = {}
    for file in storage.files(path):
        if file.name not in _UNLISTED:
            with file.open("rb") as stream:
                sums[str(file.relative_to(path))] = hashlib.file_digest(stream, "sha256").hexdigest()
    return sums


@contextlib.contextmanager
def _tensorstore_errors(path: epath.Path) -> Iterator[None]:
    """Raises the operating system's errors as such; TensorStore makes a ValueError of them."""
    try:
        yield
    except ValueError as error:
        if not (code := re.search(r"\[os_error_code='(\d+)'", str(error))):
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
