"""Manifest: what it records, and that a run is resumed only as itself."""

import dataclasses
import json
import subprocess
import sys

import jax
import pytest

from negot_jax.training import manifest


@dataclasses.dataclass(frozen=True)
class Model:
    width: int = 8
    rates: tuple[float, ...] = (0.5, float("inf"))


@dataclasses.dataclass(frozen=True)
class Config:
    model: Model = Model()
    steps: int = 3


CATALOG = {"name": "generated", "train": 802, "test": 128}


def test_records_the_run_and_its_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--steps=3"])
    workdir = tmp_path / "runs" / "one"
    manifest.record_start(workdir, Config(), seed=7, catalog=CATALOG)
    written = manifest.record_start(workdir, Config(), seed=7, catalog=CATALOG)
    assert json.loads((workdir / "manifest.json").read_text()) == written
    assert written["config"] == {"model": {"width": 8, "rates": [0.5, float("inf")]}, "steps": 3}
    assert (written["seed"], written["catalog"]) == (7, CATALOG)
    assert len(written["starts"]) == 2
    start = written["starts"][-1]
    assert start["command"] == ["train.py", "--steps=3"]
    assert start["versions"]["jax"] == jax.__version__
    assert start["devices"] == {"kind": jax.devices()[0].device_kind, "count": jax.device_count(), "processes": 1}
    assert [path.name for path in workdir.iterdir()] == ["manifest.json"]  # nothing temporary stays


def test_another_run_in_the_same_directory_is_refused_by_field(tmp_path):
    manifest.record_start(tmp_path, Config(), seed=7, catalog=CATALOG)
    before = (tmp_path / "manifest.json").read_text()
    with pytest.raises(ValueError) as error:
        manifest.record_start(tmp_path, Config(Model(width=9)), seed=8, catalog={**CATALOG, "version": 2})
    lines = str(error.value).splitlines()
    assert lines[1:4] == [
        "  catalog.version: saved None, now 2",
        "  config.model.width: saved 8, now 9",
        "  seed: saved 7, now 8",
    ]
    assert "another --workdir" in lines[4]
    assert (tmp_path / "manifest.json").read_text() == before


def test_git_state_is_that_of_the_checkout_and_of_no_enclosing_one(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    none = {"commit": None, "dirty": None}
    (tmp_path / "inside").mkdir()
    assert manifest._git_state(tmp_path) == none
    git("init")
    git("commit", "--allow-empty", "-m", "first")
    commit = git("rev-parse", "HEAD").stdout.strip()
    assert manifest._git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "new").touch()
    assert manifest._git_state(tmp_path) == {"commit": commit, "dirty": True}
    assert manifest._git_state(tmp_path / "inside") == none
