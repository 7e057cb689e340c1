"""Manifest: what it records, and that a run is resumed only as itself."""

import dataclasses
import json
import subprocess
import sys

import jax
import pytest

from negot_jax.training import manifest
from tests import tiny_run


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
    manifest.record_start(workdir, Config(), seed=7, catalog=CATALOG, tokenizer=b"model")
    written = manifest.record_start(workdir, Config(), seed=7, catalog=CATALOG, tokenizer=b"model")
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
    manifest.record_start(tmp_path, Config(), seed=7, catalog=CATALOG, tokenizer=b"model")
    before = (tmp_path / "manifest.json").read_text()
    with pytest.raises(ValueError) as error:
        manifest.record_start(tmp_path, Config(Model(width=9)), 8, {**CATALOG, "version": 2}, b"another")
    named = (
        "catalog.version: saved None, now 2; config.model.width: saved 8, now 9; seed: saved 7, now 8; "
        "tokenizer: saved '9372c470eeadd5ec', now 'ae448ac86c4e8e4d'"
    )
    assert named in str(error.value) and "another --workdir" in str(error.value)
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


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "\0" * 99, '{"config": {}, "seed": 0}'])
def test_a_damaged_manifest_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"{path} is damaged: .* Put a copy back; or delete it"):
        manifest.record_start(tmp_path, Config(), seed=7, catalog=CATALOG, tokenizer=b"model")
    assert path.read_text() == content


def test_a_run_is_named_by_what_identifies_it(tmp_path):
    def run_id(folder, config=Config(), seed=7, tokenizer=b"model"):
        return manifest.run_id(manifest.record_start(tmp_path / folder, config, seed, CATALOG, tokenizer))

    assert run_id("one") == run_id("one") == run_id("two") == manifest.run_id(manifest.read(tmp_path / "one"))
    others = [run_id("a", config=Config(steps=4)), run_id("b", seed=8), run_id("c", tokenizer=b"another")]
    assert len({run_id("one"), *others}) == 4


def test_a_tokenizer_is_known_by_its_digest(tmp_path):
    recorded = manifest.record_start(tmp_path, Config(), seed=7, catalog=CATALOG, tokenizer=b"model")
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"model")
    manifest.require_tokenizer(recorded, path)
    path.write_bytes(b"mode")
    with pytest.raises(ValueError, match=f"{path} is damaged, or of another run: .* Put a copy back; or delete it"):
        manifest.require_tokenizer(recorded, path)


def test_the_mesh_may_change_from_one_start_to_the_next(tmp_path):
    for size in (1, 2):
        recorded = manifest.record_start(tmp_path, tiny_run.config(mesh__fsdp=size), 0, {}, b"model")
    assert [start["mesh"]["fsdp"] for start in recorded["starts"]] == [1, 2]
    assert "mesh" not in recorded["config"]
