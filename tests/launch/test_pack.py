"""What leaves this machine."""

import os
import subprocess
import sys
import tarfile

import pytest

from tests.launch.cloud import ROOT, SECRET


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("home") / "a/folder/negot_jax.tar.gz"
    pack = [sys.executable, "-m", "launch.pack", str(path), "TOKEN"]
    subprocess.run(pack, env={**os.environ, "TOKEN": SECRET, "OTHER": "not asked for"}, cwd=ROOT, check=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with tarfile.open(path) as archive:
        yield archive


def test_only_the_owner_reads_the_environment(archive, tmp_path):
    archive.extract(".launch/environment", tmp_path, filter="data")
    assert (tmp_path / ".launch/environment").stat().st_mode & 0o777 == 0o600
    read = subprocess.run(
        ["sh", "-c", '. .launch/environment; printf %s "$TOKEN$OTHER"'], env={}, cwd=tmp_path, capture_output=True
    )
    assert read.stdout.decode() == SECRET


def test_only_the_code_travels(archive):
    names = archive.getnames()
    top = {name.split("/")[0] for name in names}
    assert top == {".launch", "constraints.txt", "experiments", "launch", "negot_jax", "pyproject.toml", "setup.py"}
    assert {"experiments/train.py", "launch/worker.py", "negot_jax/catalog/checksums.tsv"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(".git")]
