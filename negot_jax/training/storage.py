"""Files of a run, on a local disk or in a bucket: `gs://bucket/folder`.

Orbax writes checkpoints to either. Small files go to a local disk first, since a bucket cannot append to an object.
"""

from collections.abc import Iterator
from concurrent import futures
import contextlib
import importlib.util
import os
import pathlib
import shutil
import tempfile

from etils import epath

from negot_jax import cache


def is_remote(path: str | os.PathLike) -> bool:
    return "://" in os.fspath(path)


def require_bucket(path: str, name: str) -> None:
    """Raises ValueError, which calls the path by `name`, if it is in a bucket that cannot be read."""
    if not path.startswith("gs://"):
        raise ValueError(f"{name}={path} is neither a local folder nor one in a bucket, gs://BUCKET/FOLDER.")
    if importlib.util.find_spec("gcsfs") is None:
        raise ValueError(f"{name}={path}: reading a bucket needs gcsfs: `pip install gcsfs`.")


@contextlib.contextmanager
def staged(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields this folder, created if missing; for a bucket, yields a local folder and uploads it at the end."""
    if not is_remote(folder):
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        yield pathlib.Path(folder)
        return
    with tempfile.TemporaryDirectory() as local:
        yield pathlib.Path(local)
        upload(pathlib.Path(local), folder)


def upload(local: pathlib.Path, folder: str | os.PathLike) -> None:
    """Copies the files of a local folder, recursively."""
    for path in files(epath.Path(local)):
        target = epath.Path(folder) / str(path.relative_to(local))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


def files(folder: epath.Path) -> Iterator[epath.Path]:
    """All files below a folder. In a bucket, `walk` would yield names without `gs://`."""
    for path in folder.iterdir():
        yield from files(path) if path.is_dir() else [path]


def size(path: epath.Path) -> int:
    """The bytes of a file. Of a local one, `stat` of `epath` would ask for its owner's name, and not all have one."""
    return path.stat().length if is_remote(path) else os.path.getsize(path)


def local(folder: str | os.PathLike, copies: pathlib.Path | None = None) -> pathlib.Path:
    """This folder; of one in a bucket, a local copy in `copies`, by default the user's cache. A file is copied again
    where its size is another, or it was written later than the copy, and removed where the bucket has it no longer.
    FileNotFoundError: the bucket has no files there.
    """
    if not is_remote(folder):
        return pathlib.Path(folder)
    folder = epath.Path(folder)
    found = [path for path in folder.iterdir() if path.is_file()] if folder.exists() else []
    if not found:
        raise FileNotFoundError(f"there are no files in {folder}")
    copy = (copies or cache.folder("checkpoints")) / str(folder).split("://")[1]
    copy.mkdir(parents=True, exist_ok=True)

    def download(path: epath.Path) -> None:
        target = copy / path.name
        copied = target.stat() if target.exists() else None
        if copied is None or copied.st_size != size(path) or copied.st_mtime < (path.stat().mtime or 0):
            with path.open("rb") as source, cache.replacing(target) as part, part.open("xb") as file:
                shutil.copyfileobj(source, file, 2**24)

    with futures.ThreadPoolExecutor(16) as threads:  # One connection does not saturate the network.
        list(threads.map(download, found))
    for path in copy.iterdir():
        if path.name not in {kept.name for kept in found} and path.is_file() and not path.name.startswith("."):
            path.unlink(missing_ok=True)  # An index that was left here would name the weights of before.
    return copy


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file so that a crash at any time leaves either the whole old file or the whole new one."""
    content = content.encode() if isinstance(content, str) else content
    if is_remote(path):  # An object appears once it is whole.
        epath.Path(path).write_bytes(content)
        return
    with cache.replacing(pathlib.Path(path)) as part, part.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
