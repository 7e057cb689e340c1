"""The folder of a run: how it is named, who may write to it, and whether anything in it is worth keeping."""

from collections.abc import Iterator
import contextlib
import fcntl
import os
import pathlib

from etils import epath

from negot_jax.run import weights
from negot_jax.training import checkpoint, distributed, storage

MARKER = "PREEMPTED"  # A file of the folder, from a preemption to the next start.


class FolderError(ValueError):
    """A run's folder that cannot be used, found when training starts; the message names the way out."""


def workdir(value: str | os.PathLike, name: str = "--workdir") -> epath.Path:
    """A run's folder from its name, local, with `~` expanded, or gs://. It need not exist yet.

    Raises ValueError if the name is empty, or one of a bucket that cannot be read.
    """
    value = os.fspath(value)
    if storage.is_remote(value):
        storage.require_bucket(value, name)
        return epath.Path(value)
    if not value:
        raise ValueError(f"{name} is empty. Name a folder.")
    try:
        return epath.Path(pathlib.Path(value).expanduser().absolute())
    except RuntimeError as error:
        raise ValueError(f"{name}={value}: there is no such user. Name another folder.") from error


def local_folder(value: str | os.PathLike, name: str) -> pathlib.Path:
    """A local folder to write to, from its name. Raises ValueError as `workdir` and `require_writable` do."""
    if storage.is_remote(value):
        raise ValueError(
            f"{name}={value} is in a bucket. Name a local folder; `gcloud storage cp --recursive` copies it there."
        )
    path = workdir(value, name)
    require_writable(path, name)
    return pathlib.Path(path)


def require_writable(path: epath.Path, name: str) -> None:
    """Raises ValueError, which calls the folder by `name`, if none can be made or written to there, on a local disk."""
    if storage.is_remote(path):
        return
    local = pathlib.Path(path)
    there = next(parent for parent in (local, *local.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "no permission" if there.is_dir() else "it is not a folder"
        raise ValueError(f"{name}={path} cannot be written to: {reason} ({there}). Name another folder.")


@contextlib.contextmanager
def sole_use(path: epath.Path) -> Iterator[None]:
    """Makes the folder if it is missing, and keeps other processes from training in it.

    A bucket has no locks, and no folders to make. Raises FolderError if the folder cannot be made or written to, or
    another process is training in it; CheckpointError if no checkpoint can be written below it.
    """
    if storage.is_remote(path) or not distributed.is_first():
        yield
        return
    checkpoint.locate(path)
    file = path / ".lock"
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = file.open("w")
    except OSError as error:
        raise FolderError(f"--workdir={path} cannot be written to: {error.strerror}. Name another folder.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Released with the process, however it ends.
        except BlockingIOError as error:
            raise FolderError(f"--workdir={path}: another process is training there. Use another folder.") from error
        except OSError as error:
            print(f"{path} cannot be locked ({error.strerror}): make sure that no other process trains there.")
        if not file.exists() or not os.path.samestat(os.fstat(lock.fileno()), os.stat(file)):
            raise FolderError(f"--workdir={path}: another process was just there. Run the same command again.")
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def has_trained(path: epath.Path) -> bool:
    """Whether a run has come as far as a finished warm start or a checkpoint."""
    saved = path / weights.CHECKPOINTS
    checkpoints = saved.exists() and any(child.name.isdigit() for child in saved.iterdir())
    return checkpoints or any((path / name).exists() for name in weights.WARM_STARTS)
