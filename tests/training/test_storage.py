"""A bucket, played by files in memory: what a run writes there besides its checkpoints."""

from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
import numpy as np
import pytest

from experiments import cli
from negot_jax.training import checkpoint, manifest, metrics, storage
from tests import tiny_run

WORKDIR = epath.Path("gs://bucket/run")


class Bucket(MemoryFileSystem):
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("gs://"))


@pytest.fixture(autouse=True)
def bucket(monkeypatch):
    files = Bucket()
    files.mkdir("bucket")
    monkeypatch.setattr(backend._FileSystemSpecBackend, "fs", lambda self, path: files)
    yield
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]


def test_what_is_remote():
    assert storage.is_remote(WORKDIR) and storage.is_remote("gs://bucket") and not storage.is_remote("/gs/bucket")


def test_the_manifest_is_written_read_and_compared():
    recorded = manifest.record_start(WORKDIR, tiny_run.config(), 0, {}, b"model")
    assert manifest.read(WORKDIR) == recorded
    assert len(manifest.record_start(WORKDIR, tiny_run.config(), 0, {}, b"model")["starts"]) == 2
    with pytest.raises(ValueError, match="gs://bucket/run/manifest.json belongs to another run"):
        manifest.record_start(WORKDIR, tiny_run.config(seed=1), 1, {}, b"model")


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


def test_nothing_is_locked():
    with cli.sole_use(WORKDIR), cli.sole_use(WORKDIR):
        pass


def test_a_checkpoint_that_is_not_renamed_is_sealed_where_it_is(tmp_path):
    """As Orbax writes into a bucket; else under the name that it has until it is committed."""
    for name in ("7", "8.orbax-checkpoint-tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_bytes(b"weights")
        (tmp_path / name / "_CHECKPOINT_METADATA").write_text('{"item_handlers": {}}')
    checkpoint._seal(epath.Path(tmp_path / "7"))
    checkpoint._seal(epath.Path(tmp_path / "8"))
    (tmp_path / "8.orbax-checkpoint-tmp").rename(tmp_path / "8")
    assert checkpoint.survey(tmp_path) == ([7, 8], {})
