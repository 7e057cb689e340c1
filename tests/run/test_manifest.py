"""The manifest: what it records, what identifies a run, and that a run is resumed only as itself."""

import json
import subprocess
import sys

import jax
import pytest

from negot_jax.run import manifest
from negot_jax.run.config import Config, override

INPUTS = {"catalog": "c0", "tokenizer": "t0", "model.checkpoint": "m0"}


def record(workdir, **inputs):
    manifest.record_start(workdir, Config(), INPUTS | inputs, {"train": 802})
    return manifest.read(workdir)


def test_records_the_run_and_its_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--steps=3"])
    workdir = tmp_path / "runs" / "one"
    record(workdir)
    written = record(workdir)
    assert written["config"]["game.turns"] == 6 and written["inputs"] == INPUTS and written["catalog"] == {"train": 802}
    assert override(Config(), written["config"]) == Config()
    assert len(written["starts"]) == 2
    start = written["starts"][-1]
    assert start["command"] == ["train.py", "--steps=3"]
    assert start["versions"]["jax"] == jax.__version__
    assert start["devices"] == {"kind": jax.devices()[0].device_kind, "count": jax.device_count(), "processes": 1}
    assert start["config"]["mesh.fsdp"] == 1 and "game.turns" not in start["config"]
    assert [path.name for path in workdir.iterdir()] == ["manifest.json"]  # Nothing temporary stays.


FREE = {"mesh.fsdp": 2, "evaluation.episodes": 3, "training.keep": 9, "training.transcripts_every": 7}
MOVED = {"catalog.data_dir": "/elsewhere", "model.checkpoint": "/elsewhere"}
IDENTIFYING = {
    "seed": 1,
    "game.seller": "begging",
    "catalog.test": 5,
    "sampling.temperature": 0.9,
    "learner.group": 4,
    "warm_start.steps": 7,
    "language.decoding": "constrained",
}


def test_what_identifies_a_run(tmp_path):
    saved = record(tmp_path)
    same = override(Config(), {**FREE, **MOVED, "training.iterations": 7})
    assert manifest.changed_fields(saved, same) == []
    assert manifest.run_id(same, INPUTS) == saved["run_id"]
    for name, value in IDENTIFYING.items():
        other = override(Config(), {name: value})
        (line,) = manifest.changed_fields(saved, other)
        assert line.startswith(f"config.{name}: saved ") and line.endswith(f"now {value!r}")
        assert manifest.run_id(other, INPUTS) != saved["run_id"]
    assert manifest.run_id(Config(), INPUTS | {"tokenizer": "t1"}) != saved["run_id"]


def test_a_field_that_came_after_the_run_had_its_default(tmp_path):
    """The run goes on under a newer version of the code, and keeps its id."""
    saved = record(tmp_path)
    del saved["config"]["buyer.model"]
    (tmp_path / manifest.FILE).write_text(json.dumps(saved | {"run_id": "older"}))
    older = manifest.read(tmp_path)
    assert manifest.changed_fields(older, Config()) == []
    (line,) = manifest.changed_fields(older, override(Config(), {"buyer.model": "base"}))
    assert line == "config.buyer.model: saved 'scripted', now 'base'"
    manifest.record_start(tmp_path, Config(), INPUTS, {})
    assert manifest.read(tmp_path)["run_id"] == "older"


def test_iterations_identify_a_run_whose_schedule_decays_over_them(tmp_path):
    decaying = override(Config(), {"optimizer.schedule": "linear"})
    manifest.record_start(tmp_path, decaying, INPUTS, {})
    longer = override(decaying, {"training.iterations": 7})
    (line,) = manifest.changed_fields(manifest.read(tmp_path), longer)
    assert "config.training.iterations: saved 200, now 7" in line


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_known_by_its_content(tmp_path, name):
    saved = record(tmp_path)
    manifest.require_inputs(tmp_path, saved, INPUTS)
    with pytest.raises(ValueError, match=f"^{name} .*its digest is other, the manifest's {INPUTS[name]}"):
        manifest.require_inputs(tmp_path, saved, INPUTS | {name: "other"})


def test_an_input_that_is_no_longer_named_is_missed(tmp_path):
    name, *others = INPUTS
    with pytest.raises(ValueError, match=f"config.{name} is not set, but the run in .* was trained with one"):
        manifest.require_inputs(tmp_path, record(tmp_path), {other: INPUTS[other] for other in others})


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
    with pytest.raises(ValueError, match=f"{path} is damaged: .* Put a copy back, or delete it"):
        record(tmp_path)
    assert path.read_text() == content
