"""Checkpoints: Orbax commits the device state together with the run and the model that it belongs to.

A save reads nothing back. When a checkpoint is committed, `CONTENTS.json` records the size of each data file and the
digest of each small one. The state's checksums are computed on the devices before a save and after a restore, so a
restore finds damage in any file, on any mesh.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import glob
import hashlib
import json
import math
import os
import re
from typing import Any, TypeVar

from etils import epath
from etils.epath import gpath
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from negot_jax.training import checksums, distributed, storage

State = TypeVar("State")

_CONTENTS = "CONTENTS.json"
_MANIFEST = "state/manifest.ocdbt"  # Orbax writes it last, when it merges what all processes wrote.
_METADATA = "_CHECKPOINT_METADATA"
_UNLISTED = (_CONTENTS, _METADATA, "commit_success.txt")  # Orbax writes the time of the commit while it commits.
_ASIDE = ".damaged"  # Ends the name of a damaged checkpoint that was put aside.
_DELETED = "deleted"  # Where Orbax moves a checkpoint before it is deleted, so that none is ever there in part.


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message names it and the way out."""


class DamagedError(CheckpointError):
    """A checkpoint that differs from what was saved."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """Where something of a run is kept. run_id: names the run, see `manifest.run_id`."""

    path: str | os.PathLike
    run_id: str

    def __truediv__(self, name: str) -> "Folder":
        return Folder(os.path.join(self.path, name), self.run_id)


def damage(path: str | os.PathLike) -> str | None:
    """Describes a missing or changed file of a checkpoint; None if there is none. `read` finds damage within data."""
    path = epath.Path(path)
    try:
        saved = json.loads((path / _CONTENTS).read_bytes())
        saved.keys()
    except FileNotFoundError:
        return f"it has no {_CONTENTS}"
    except (ValueError, AttributeError):
        return f"its file {_CONTENTS} cannot be read"
    found = _contents(path)
    for name in sorted({*saved, *found, _MANIFEST}):
        if name not in found:
            return f"its file {name} is missing"
        if saved.get(name) != found[name]:
            return f"its file {name} is not what was saved"
    try:
        json.loads((path / _METADATA).read_text())["item_handlers"]
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return f"its file {_METADATA} cannot be read"
    return None


def survey(directory: str | os.PathLike) -> tuple[list[int], dict[int, str]]:
    """The iterations of a run's whole checkpoints, and for the others what `damage` says. Raises CheckpointError if
    there are checkpoints and none is whole: training would start over and overwrite them.
    """
    directory = epath.Path(directory)
    names = [path.name for path in directory.iterdir()] if directory.exists() else []
    # In a bucket an unfinished one has its own name already; it was never saved, and Orbax takes it away.
    finished = [name for name in names if name.isdigit() and ocp.utils.is_checkpoint_finalized(directory / name)]
    found = {iteration: damage(directory / str(iteration)) for iteration in sorted(map(int, finished))}
    damaged = {iteration: reason for iteration, reason in found.items() if reason}
    whole = [iteration for iteration in found if iteration not in damaged]
    aside = [name for name in names if name.endswith(_ASIDE)]
    if not whole and (damaged or aside):
        told = [f"{iteration} ({reason})" for iteration, reason in damaged.items()] + sorted(aside)
        raise CheckpointError(
            f"no checkpoint in {directory} can be read: {', '.join(told)}. Put a copy back, or start over with another "
            "--workdir."
        )
    return whole, damaged


def read(path: str | os.PathLike, target: State, run_id: str) -> State:
    """The state of one checkpoint, as `target`: arrays or `jax.ShapeDtypeStruct`s with the shardings to restore to.
    Every process of a run makes the same call.

    Raises DamagedError if it differs from what was saved; CheckpointError if its tree is not the target's, of which the
    first difference is named, or it belongs to another run than `run_id`, see `manifest.run_id`.
    """
    path = locate(path)
    _require(path, damage(path))
    handler = ocp.CompositeCheckpointHandler()  # A Checkpointer would wait for processes that have failed.
    facts = handler.restore(path, args=ocp.args.Composite(facts=ocp.args.JsonRestore())).facts
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
            f"{path} belongs to another run: {facts['run_id']} in the checkpoint, {run_id} by configuration, catalog "
            "and tokenizer. Restore with those it was saved with, or use another --workdir."
        )
    reason = state = None
    try:
        with _tensorstore_errors(path):
            state = handler.restore(path, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))).state
    except ValueError as error:  # A checksum of TensorStore's, or data that cannot be decompressed.
        reason = str(error).split("[")[0].strip()
    _require(path, reason)
    sums = checksums.of(state)
    wrong = [name for name, value in facts["sums"].items() if sums[name] != value]
    _require(path, f"state{wrong[0]} is not what was saved" if wrong else None)
    return state


def _require(path: epath.Path, reason: str | None) -> None:
    """Raises DamagedError on all processes if any of them has a reason to."""
    if distributed.agree(bool(reason)):
        raise DamagedError(f"{path} is damaged: {reason or 'another process cannot read it'}.")


def readable(directory: str | os.PathLike, target: State, run_id: str) -> Iterator[tuple[int, State]]:
    """Yields the iteration and state of each readable checkpoint, latest first; prints which ones are damaged."""
    whole, damaged = survey(directory)
    for iteration, reason in damaged.items():
        print(f"{directory}/{iteration} is damaged: {reason}.")
    for iteration in reversed(whole):
        try:
            yield iteration, read(epath.Path(directory) / str(iteration), target, run_id)
        except DamagedError as error:
            print(error)


def write(path: str | os.PathLike, state: Any, run_id: str) -> None:
    """Writes one checkpoint over whatever is at `path`, and commits it. Raises OSError if it cannot be written."""
    path = locate(path)
    with _tensorstore_errors(path):
        options = ocp.AsyncOptions(post_finalization_callback=lambda: _seal(path))
        with ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(), async_options=options) as checkpointer:
            checkpointer.save(path, args=_items(state, run_id), force=True)


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints in one folder, by iteration: the last `keep` of them, and the best.

    Damaged ones are put aside, and a line is printed for each. Every process of a run makes the same calls; all must
    reach the folder, and no other run may write to it. Errors as in `survey`.

    best_metric: the metric whose largest value marks the best checkpoint; None for no metric.
    """

    def __init__(self, folder: Folder, keep: int = 3, best_metric: str | None = "reward"):
        self.directory = locate(folder.path)
        self._run_id, self._best_metric, self._saving = folder.run_id, best_metric, None
        if distributed.is_first():
            for iteration, reason in survey(self.directory)[1].items():
                self._put_aside(iteration, f"{self.directory / str(iteration)} is damaged: {reason}.")
            self._finish_deleting()
        distributed.wait("damaged checkpoints are put aside")
        best = [checkpoint_managers.BestN(get_metric_fn=self._quality, n=1)] if best_metric else []
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy([checkpoint_managers.LatestN(keep), *best]),
            best_fn=self._quality if best_metric else None,
            cleanup_tmp_directories=True,  # what an interrupted save left behind
            todelete_subdir=None if storage.is_remote(self.directory) else _DELETED,
            async_options=ocp.AsyncOptions(post_finalization_callback=lambda: _seal(self._saving)),
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    @property
    def latest(self) -> int | None:
        """The iteration of the latest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, iteration: int, state: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Starts a save and returns once the state is copied off the devices, so that it may be donated. An iteration
        is saved once; `metrics` must hold `best_metric`.

        Raises OSError if this save or the one before cannot be written; what was committed earlier is not touched.
        """
        if self._best_metric and self._best_metric not in (metrics or {}):
            raise ValueError(f"checkpoint {iteration}: metrics {sorted(metrics or {})} lack {self._best_metric!r}")
        self.wait()  # As the manager would; `_saving` is the path to seal.
        with _tensorstore_errors(self.directory):
            self._saving = self.directory / str(iteration)
            floats = metrics and {name: float(value) for name, value in metrics.items()}
            self._manager.save(iteration, args=_items(state, self._run_id), metrics=floats)

    def restore(self, target: State) -> tuple[int, State] | None:
        """The iteration and state of the latest whole checkpoint, None where there is none yet: see `read`."""
        while self.latest is not None:
            path = self.directory / str(self.latest)
            try:
                return self.latest, read(path, target, self._run_id)
            except DamagedError as error:
                if distributed.is_first():
                    self._put_aside(self.latest, str(error))
                distributed.wait("a damaged checkpoint is put aside")
                self._manager.reload()
        survey(self.directory)  # Raises if all of them were damaged.
        return None

    def wait(self) -> None:
        """Blocks until every started save is committed. Raises OSError as `save` does."""
        with _tensorstore_errors(self.directory):
            self._manager.wait_until_finished()
        self._finish_deleting()

    def close(self) -> None:
        """Commits every started save and frees the threads. Raises OSError as `save` does."""
        with _tensorstore_errors(self.directory):
            self._manager.close()
        self._finish_deleting()

    def __exit__(self, *_) -> None:
        self.close()

    def _put_aside(self, iteration: int, told: str) -> None:
        aside = self.directory / f"{iteration}{_ASIDE}"
        if aside.exists():
            aside.rmtree()
        (self.directory / str(iteration)).rename(aside)
        print(f"{told} Put aside as {aside.name}; the latest whole one is used.")

    def _finish_deleting(self) -> None:
        if distributed.is_first() and (self.directory / _DELETED).exists():
            (self.directory / _DELETED).rmtree()

    def _quality(self, metrics: Mapping[str, float]) -> float:
        value = metrics[self._best_metric]
        return value if math.isfinite(value) else -math.inf  # nan would leave the order undefined


def locate(path: str | os.PathLike) -> epath.Path:
    """The path as Orbax needs it. Raises CheckpointError for a name that TensorStore cannot write to."""
    path = epath.Path(path)
    if storage.is_remote(path):  # Always absolute, which `absolute` would not know.
        return path
    if re.search(r"[\\\ud800-\udfff]", name := str(path.absolute())):
        name = name.encode(errors="replace").decode()
        raise CheckpointError(f"{name} has a backslash, or a byte that is not UTF-8. Use another --workdir.")
    return _Literal(path.absolute())


class _Literal(gpath.PosixGPath):
    """A path whose own name is never a pattern: Orbax finds each process's files by a glob below it."""

    def glob(self, pattern: str) -> Iterator["_Literal"]:
        return map(self._new, glob.glob(os.path.join(glob.escape(os.fspath(self)), pattern)))


def _items(state: Any, run_id: str) -> ocp.args.Composite:
    facts = {"run_id": run_id, "leaves": _leaves(state), "sums": checksums.of(state)}
    return ocp.args.Composite(state=ocp.args.StandardSave(state), facts=ocp.args.JsonSave(facts))


def _leaves(tree: Any) -> dict[str, str]:
    """Returns dtype and shape of each leaf by its path; a typed key's dtype names its generator."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in flat}


def _seal(path: epath.Path) -> None:
    """Records the files of a checkpoint that is about to be committed; Orbax calls it on one process, once all have
    written theirs. Where it can rename a folder atomically, the checkpoint has another name till then.
    """
    unfinished = path.parent / f"{path.name}.orbax-checkpoint-tmp"
    folder = unfinished if unfinished.exists() else path
    (folder / _CONTENTS).write_text(json.dumps(_contents(folder), indent=1))


def _contents(path: epath.Path) -> dict[str, int | str]:
    """The size in bytes of each data file, the SHA-256 of each other, by its name relative to `path`."""
    contents = {}
    for file in storage.files(path):
        if file.name not in _UNLISTED:
            is_data = file.parent.name == "d"
            value = storage.size(file) if is_data else hashlib.sha256(file.read_bytes()).hexdigest()
            contents[str(file.relative_to(path))] = value
    return contents


@contextlib.contextmanager
def _tensorstore_errors(path: epath.Path) -> Iterator[None]:
    """Raises the operating system's errors as such; TensorStore makes a ValueError of them."""
    try:
        yield
    except ValueError as error:
        if not (code := re.search(r"\[os_error_code='(\d+)'", str(error))):
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
