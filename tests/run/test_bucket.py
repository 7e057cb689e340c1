"""A run whose folder, or whose model, is in a bucket."""

from etils import epath
import pytest

from negot_jax.run import assembly, folder, manifest
from negot_jax.run.config import Config, override
from tests.bucket import WORKDIR, bucket  # noqa: F401, a fixture


def test_the_manifest_is_written_and_read():
    for _ in range(2):
        manifest.record_start(WORKDIR, Config(), {"tokenizer": "t0"}, {})
    saved = manifest.read(WORKDIR)
    assert len(saved["starts"]) == 2 and manifest.changed_fields(saved, Config()) == []


def test_a_model_in_a_bucket_is_named_by_the_field(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="model.checkpoint=gs://bucket/nothing: .* no files .* Copy a"):
        assembly.with_local_checkpoints(override(Config(), {"model.checkpoint": "gs://bucket/nothing"}))
    (WORKDIR / "config.json").write_text("{}")
    config = override(Config(), {"model.checkpoint": str(WORKDIR)})
    local = assembly.with_local_checkpoints(config).model.checkpoint
    assert local == str(tmp_path / "negot_jax/checkpoints/bucket/run")
    assert assembly.with_local_checkpoints(Config()) == Config()
    (WORKDIR / manifest.FILE).write_text("{}")
    with pytest.raises(ValueError, match="model.checkpoint=gs://bucket/run is a run in a bucket.*--recursive"):
        assembly.with_local_checkpoints(config)


def test_a_workdir_is_a_folder_or_gs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder.workdir("runs/1") == epath.Path(tmp_path / "runs/1") == folder.workdir("~/runs/1")
    with pytest.raises(ValueError, match="--workdir=s3://bucket/run is neither .* gs://"):
        folder.workdir("s3://bucket/run")
    for name in ("s3://bucket/model", "https://huggingface.co/Qwen/Qwen3-0.6B"):
        with pytest.raises(ValueError, match=f"config.model.checkpoint={name} is neither .* gs://"):
            assembly.with_local_checkpoints(override(Config(), {"model.checkpoint": name}))
