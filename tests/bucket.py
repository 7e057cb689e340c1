"""A bucket, played by files in memory: import the fixture `bucket`, and gs:// is there for every test of the module."""

from importlib import machinery
import sys
import types

from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
import pytest

WORKDIR = epath.Path("gs://bucket/run")


class Bucket(MemoryFileSystem):
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("gs://"))

    def info(self, path, **options):
        found = super().info(path, **options)
        return found | {"mtime": found.get("created")}  # As gcsfs names it.


@pytest.fixture(autouse=True)
def bucket(monkeypatch):
    files = Bucket()
    files.mkdir("bucket")
    installed = types.ModuleType("gcsfs")
    installed.__spec__ = machinery.ModuleSpec("gcsfs", None)
    monkeypatch.setitem(sys.modules, "gcsfs", installed)
    monkeypatch.setattr(backend._FileSystemSpecBackend, "fs", lambda self, path: files)
    yield
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]
