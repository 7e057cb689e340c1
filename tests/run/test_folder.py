"""The folder of a run: locks, and the names that it may have."""

import errno
import importlib.util
import os

import pytest

from negot_jax.run import folder
from tests.bucket import WORKDIR, bucket  # noqa: F401, a fixture


def test_a_bucket_needs_a_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--workdir=gs://bucket/run: reading a bucket needs gcsfs: `pip install"):
        folder.workdir("gs://bucket/run")


def test_nothing_is_locked():
    with folder.sole_use(WORKDIR), folder.sole_use(WORKDIR):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_that_cannot_be_locked_is_used_with_one_line(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder.fcntl, "flock", flock)
    with folder.sole_use(tmp_path):
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"{tmp_path} cannot be locked")


def test_no_lock_is_left_behind(tmp_path):
    with pytest.raises(ValueError), folder.sole_use(tmp_path):
        assert (tmp_path / ".lock").exists()
        raise ValueError("refused")
    assert not list(tmp_path.iterdir())


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    with folder.sole_use(tmp_path), pytest.raises(ValueError, match=f"--workdir={tmp_path}: another process"):
        with folder.sole_use(tmp_path):
            pass
    with folder.sole_use(tmp_path):
        pass  # It was let go of.
