"""The user's cache, `$XDG_CACHE_HOME/negot_jax` or `~/.cache/negot_jax`: it saves work, and no result depends on it."""

import atexit
from collections.abc import Iterator
import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import secrets
import shutil
import sys
import tempfile

import jax


def folder(name: str) -> pathlib.Path:
    """A writable folder for one kind of cached data; raises OSError if no temporary folder can be written either.

    Where the user has no home, or the cache cannot be written, the folder is temporary: it is removed when the process
    ends, and one line says so.
    """
    root = _root()
    if root is not None:
        path = root / name
        with contextlib.suppress(OSError):
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):  # `os.access` would call a read-only disk writable to root.
                return path
    path = _temporary(root) / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def keep_compiled(where: str | None) -> None:
    """Keeps what this process compiles, so that another start of the same program compiles nothing.

    where: a folder, local or gs://; "" for nowhere; None for JAX_COMPILATION_CACHE_DIR, or else the user's cache.
    """
    if where == "" or (where is None and jax.config.jax_compilation_cache_dir):
        return
    jax.config.update("jax_compilation_cache_dir", where or str(folder(f"compiled/{_processor()}")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # By default, programs that took a second.


def _processor() -> str:
    """Names this kind of processor. A home can be shared by machines, and a CPU's code runs only on its own kind."""
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        kind += "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    return hashlib.sha256(kind.encode()).hexdigest()[:12]


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path beside `path`, for a file or a folder, and renames it to `path` when the block ends.

    No reader or other writer sees half of it. If the block raises, `path` is left alone and nothing remains beside it.
    A folder replaces only an empty one.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield part
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with contextlib.suppress(OSError):
            part.unlink()


def _root() -> pathlib.Path | None:
    """The cache of this package, or None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # The XDG specification: a relative path is ignored, and so is an empty one.
        home = os.environ["HOME"] if "HOME" in os.environ else os.path.expanduser("~")
        base = os.path.join(home, ".cache")
    return pathlib.Path(base, "negot_jax") if os.path.isabs(base) else None


@functools.cache
def _temporary(root: pathlib.Path | None) -> pathlib.Path:
    why = "there is no home folder" if root is None else f"{root} cannot be written"
    print(f"no cache: {why}. To keep what is built or downloaded, set XDG_CACHE_HOME to a folder.", file=sys.stderr)
    path = pathlib.Path(tempfile.mkdtemp(prefix="negot_jax_"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
