"""What leaves this machine."""

import json
import os
import subprocess
import sys
import tarfile

import pytest

from tests.launch.cloud import ROOT, SECRET


@pytest.fixture
def packed(tmp_path):
    folder = tmp_path / "a" / "folder"
    for _ in range(2):  # The second time, over the first.
        environment = {**os.environ, "TOKEN": SECRET, "OTHER": "not asked for"}
        subprocess.run(
            [sys.executable, "-m", "launch.pack", str(folder), "TOKEN"], env=environment, cwd=ROOT, check=True
        )
    return folder


def test_only_the_owner_reads_the_environment(packed):
    path = packed / "negot_jax.env"
    assert json.loads(path.read_text()) == {"TOKEN": SECRET}
    assert path.stat().st_mode & 0o777 == 0o600
    assert packed.stat().st_mode & 0o777 == 0o700


def test_only_the_code_travels(packed):
    with tarfile.open(packed / "negot_jax.tar.gz") as archive:
        names = archive.getnames()
    top = {name.split("/")[0] for name in names}
    assert top == {"constraints.txt", "experiments", "launch", "negot_jax", "pyproject.toml", "setup.py"}
    assert {"experiments/train.py", "launch/worker.py", "negot_jax/catalog/checksums.tsv"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(".")]
