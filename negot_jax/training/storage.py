"""Files of a run, on a local disk or in a bucket: `gs://bucket/folder`.

Checkpoints go where they belong by themselves. Small files are written on a local disk first: a bucket takes whole
objects, and cannot append to one.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import tempfile

from etils import epath


def is_remote(path: str | os.PathLike) -> bool:
    return "://" in os.fspath(path)


@contextlib.contextmanager
def staged(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields this folder, made if it is not there; for a bucket one whose files go there at the end."""
    if not is_remote(folder):
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        yield pathlib.Path(folder)
        return
    with tempfile.TemporaryDirectory() as local:
        yield pathlib.Path(local)
        upload(pathlib.Path(local), folder)


def upload(local: pathlib.Path, folder: str | os.PathLike) -> None:
    """Copies the files of a local folder, those of its folders included."""
    for path in local.rglob("*"):
        if path.is_file():
            target = epath.Path(folder) / str(path.relative_to(local))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Writes a text file so that, whenever the process or the machine dies, the whole old or the whole new is there."""
    if is_remote(path):  # An object is there when it is whole.
        epath.Path(path).write_text(text)
        return
    temporary = pathlib.Path(f"{os.fspath(path)}.tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
