"""A bucket, played by files in memory: what a run writes there besides its checkpoints."""

import os

from etils import epath
import numpy as np
import pytest

from negot_jax.training import checkpoint, metrics, storage
from tests.bucket import WORKDIR, bucket  # noqa: F401, a fixture


def test_what_is_remote():
    assert storage.is_remote(WORKDIR) and storage.is_remote("gs://bucket") and not storage.is_remote("/gs/bucket")


def test_metrics_grow_with_every_iteration_and_go_on():
    with metrics.MetricWriter(WORKDIR, total=3) as writer:
        for iteration in range(2):
            writer.write(iteration, {"reward": iteration / 2})
            assert len(metrics.read_csv(WORKDIR / "metrics.csv")["reward"]) == iteration + 1
    with metrics.MetricWriter(WORKDIR, total=3, start=1) as writer:
        writer.write(1, {"reward": 7.0, "loss": 1.0})
    np.testing.assert_array_equal(metrics.read_csv(WORKDIR / "metrics.csv")["reward"], [0, 7])
    assert len(list((WORKDIR / "tensorboard").iterdir())) == 2


def test_a_folder_is_copied_at_its_end_and_a_local_one_is_itself(tmp_path):
    with storage.staged(WORKDIR / "report") as folder:
        (folder / "deep").mkdir()
        (folder / "deep/table.md").write_text("| a |")
    assert (WORKDIR / "report/deep/table.md").read_text() == "| a |"
    with storage.staged(tmp_path / "report") as folder:
        assert folder == tmp_path / "report" and folder.is_dir()


def test_a_checkpoint_of_a_model_is_copied_once(tmp_path):
    assert storage.local(tmp_path / "here", tmp_path / "cache") == tmp_path / "here"
    for name in ("config.json", "model.safetensors"):
        (WORKDIR / name).write_text(name)
    (WORKDIR / "onnx").mkdir()
    (WORKDIR / "onnx/model").write_text("not read")
    copy = storage.local(WORKDIR, tmp_path / "cache")
    assert copy == tmp_path / "cache/bucket/run"
    assert {path.name: path.read_text() for path in copy.iterdir()} == {
        name: name for name in ("config.json", "model.safetensors")
    }
    (copy / "config.json").write_text("CONFIG.JSON")  # Of the same size: it stays.
    (copy / "model.safetensors").write_text("cut")  # Not of the same size: it was cut off, or is an older one.
    storage.local(WORKDIR, tmp_path / "cache")
    assert (copy / "config.json").read_text() == "CONFIG.JSON"
    assert (copy / "model.safetensors").read_text() == "model.safetensors"
    os.utime(copy / "config.json", (0, 0))  # Older than what is in the bucket.
    storage.local(WORKDIR, tmp_path / "cache")
    assert (copy / "config.json").read_text() == "config.json"
    (WORKDIR / "config.json").unlink()
    storage.local(WORKDIR, tmp_path / "cache")
    assert [path.name for path in copy.iterdir()] == ["model.safetensors"]
    with pytest.raises(FileNotFoundError, match="there are no files in gs://bucket/nothing"):
        storage.local("gs://bucket/nothing", tmp_path / "cache")


def _unfinished_checkpoint(path: epath.Path) -> None:
    (path / "state").mkdir(parents=True)
    (path / "state/manifest.ocdbt").write_bytes(b"weights")
    (path / "_CHECKPOINT_METADATA").write_text('{"item_handlers": {}}')


def test_a_checkpoint_in_a_bucket_is_sealed_where_it_is_and_then_committed():
    for name in ("7", "8"):
        _unfinished_checkpoint(WORKDIR / name)
    assert checkpoint.survey(WORKDIR) == ([], {})  # Not damaged: a save that was cut off.
    checkpoint._seal(WORKDIR / "7")
    (WORKDIR / "7/commit_success.txt").write_text("by Orbax")
    assert checkpoint.survey(WORKDIR) == ([7], {})
    (WORKDIR / "7/state/manifest.ocdbt").write_bytes(b"weighty")
    with pytest.raises(checkpoint.CheckpointError, match=r"7 \(its file state/manifest.ocdbt is not what was saved\)"):
        checkpoint.survey(WORKDIR)


def test_a_checkpoint_on_a_disk_is_sealed_under_the_name_that_it_has_until_then(tmp_path):
    _unfinished_checkpoint(epath.Path(tmp_path / "8.orbax-checkpoint-tmp"))
    checkpoint._seal(epath.Path(tmp_path / "8"))
    (tmp_path / "8.orbax-checkpoint-tmp").rename(tmp_path / "8")
    assert checkpoint.survey(tmp_path) == ([8], {})
