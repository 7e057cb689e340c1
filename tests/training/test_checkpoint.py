"""Checkpoints: bit-equal resume, which ones are kept, damage of any file, odd folders, full disks, clear mismatches."""

import math
import pwd
import resource
import shutil

from etils.epath import gpath
from flax import struct
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import optax
import pytest

from negot_jax.training import checkpoint, checksums
from negot_jax.training.checkpoint import CheckpointError, Checkpoints, Folder
from tests.training.disk import wait_until_quiet


@struct.dataclass
class State:
    weights: dict
    optimizer: optax.OptState
    key: jax.Array


ADAM = optax.adam(0.1)


@pytest.fixture(scope="module")
def start():
    weights = {"w": jax.numpy.ones((8, 4), jax.numpy.bfloat16), "b": jax.numpy.zeros(4)}
    return State(weights, ADAM.init(weights), jax.random.split(jax.random.key(0, impl="rbg"), 2))


@jax.jit
def advance(state):
    """One noisy update: any leaf that is not restored to the bit changes what follows."""
    key = jax.vmap(jax.random.fold_in, (0, None))(state.key, 1)
    noise = jax.random.normal(key[0], (8, 4))
    gradients = jax.grad(lambda w: ((w["w"] * noise).sum() - w["b"].sum()) ** 2)(state.weights)
    updates, optimizer = ADAM.update(gradients, state.optimizer)
    return State(optax.apply_updates(state.weights, updates), optimizer, key)


def assert_bit_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def opened(directory, run_id="a run", **options):
    return Checkpoints(Folder(directory, run_id), **options)


def save_all(directory, state, rewards, **options):
    checkpoints = opened(directory, **options)
    for iteration, reward in enumerate(rewards):
        checkpoints.save(iteration, state, {"reward": reward})
    checkpoints.wait()
    return checkpoints


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path, start):
    state = advance(start)
    first = opened(tmp_path)
    first.save(1, state, {"reward": 0.5})
    first.close()

    second = opened(tmp_path)
    iteration, restored = second.restore(abstract(state))
    second.close()
    assert iteration == 1
    assert_bit_equal(restored, state)
    assert_bit_equal(advance(restored), advance(state))


def test_the_saved_state_may_be_donated_at_once(tmp_path, start):
    state = advance(start)
    expected = jax.device_get(state.weights)
    checkpoints = opened(tmp_path)
    checkpoints.save(1, state, {"reward": 0.0})
    zeros = jax.jit(lambda weights: jax.tree.map(jax.numpy.zeros_like, weights), donate_argnums=0)
    jax.block_until_ready(zeros(state.weights))  # writes into the donated buffers
    checkpoints.wait()
    _, restored = checkpoints.restore(abstract(start))
    checkpoints.close()
    assert_bit_equal(restored.weights, jax.tree.map(jax.numpy.asarray, expected))


def test_restores_into_the_shardings_of_the_target(tmp_path, start):
    checkpoints = save_all(tmp_path, start, [0.0])
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("data",)), PartitionSpec("data"))
    target = abstract(start)
    target.weights["w"] = jax.ShapeDtypeStruct((8, 4), jax.numpy.bfloat16, sharding=sharding)
    _, restored = checkpoints.restore(target)
    checkpoints.close()
    assert restored.weights["w"].sharding == sharding


@pytest.mark.parametrize(
    ("rewards", "kept"),
    [
        ([0.1, 0.9, 0.2, 0.3, 0.4], {1, 3, 4}),
        ([0.1, 0.2, 0.3, 0.4, 0.5], {3, 4}),
        ([0.1, 0.9, math.nan, 0.3, 0.2], {1, 3, 4}),
    ],
)
def test_the_last_and_the_best_are_kept(tmp_path, start, rewards, kept):
    save_all(tmp_path, start.weights, rewards, keep=2).close()
    checkpoints = opened(tmp_path, keep=2)
    assert checkpoints.latest == 4
    checkpoints.close()
    assert {int(path.name) for path in tmp_path.iterdir()} == kept


def test_an_empty_directory_has_none(tmp_path, start):
    checkpoints = opened(tmp_path / "none")
    assert checkpoints.latest is None and checkpoints.restore(abstract(start)) is None
    checkpoints.close()


def test_a_deletion_that_was_cut_short_is_finished(tmp_path, start, monkeypatch):
    """Whatever is left of it, it is never taken for a damaged checkpoint."""
    monkeypatch.setattr(Checkpoints, "_finish_deleting", lambda self: None)  # Killed before it began.
    save_all(tmp_path, start.weights, [0.1, 0.2, 0.3], keep=1).close()
    monkeypatch.undo()
    assert {path.name for path in (tmp_path / "deleted").iterdir()} == {"0", "1"}
    assert checkpoint.survey(tmp_path) == ([2], {})
    opened(tmp_path).close()
    assert {path.name for path in tmp_path.iterdir()} == {"2"}


def test_a_user_whom_the_system_does_not_know_can_save_and_restore(tmp_path, start, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")  # As in a container that was given a bare number.

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    checkpoints = save_all(tmp_path, start, [0.1, 0.2])
    iteration, state = checkpoints.restore(abstract(start))
    checkpoints.close()
    assert iteration == 1 and jax.tree.structure(state) == jax.tree.structure(start)


def test_a_save_without_the_best_metric_is_refused(tmp_path, start):
    checkpoints = opened(tmp_path, best_metric="deal_rate")
    with pytest.raises(ValueError, match=r"checkpoint 3: metrics \['reward'\] lack 'deal_rate'"):
        checkpoints.save(3, start, {"reward": 1.0})
    checkpoints.close()


def test_another_tree_is_refused_by_directory_and_leaf(tmp_path, start):
    checkpoints = save_all(tmp_path, start, [0.0])

    def refusal(**changes):
        with pytest.raises(CheckpointError) as error:
            checkpoints.restore(abstract(start.replace(**changes)))
        assert str(tmp_path / "0") in str(error.value)
        return str(error.value)

    weights = start.weights
    assert "weights['b'] is float32[4] in the checkpoint and float32[5] here" in refusal(
        weights={**weights, "b": jax.numpy.zeros(5)}
    )
    assert "weights['w'] is bfloat16[8, 4] in the checkpoint and float32[8, 4] here" in refusal(
        weights={**weights, "w": jax.numpy.ones((8, 4))}
    )
    assert "weights['lora'] is no such leaf in the checkpoint" in refusal(
        weights={**weights, "lora": jax.numpy.zeros(1)}
    )
    assert "and no such leaf here" in refusal(weights={"w": weights["w"]})
    assert "state.key is key<rbg>[2] in the checkpoint and key<fry>[2] here" in refusal(
        key=jax.random.split(jax.random.key(0), 2)
    )
    checkpoints.close()


def test_another_run_is_refused(tmp_path, start):
    save_all(tmp_path, start, [0.0]).close()
    checkpoints = opened(tmp_path, "another run")
    with pytest.raises(
        CheckpointError, match=f"{tmp_path}/0 belongs to another run: a run in the checkpoint, another run by"
    ):
        checkpoints.restore(abstract(start))
    checkpoints.close()


def test_a_folder_may_be_named_from_where_we_are(tmp_path, start, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.write("runs/one", start, "a run")
    save_all("runs/many", start, [0.0])
    assert checkpoint.damage("runs/one") is None and checkpoint.survey("runs/many") == ([0], {})
    for path in ("runs/one", "runs/many/0"):
        assert_bit_equal(checkpoint.read(path, abstract(start), "a run"), start)


def test_one_checkpoint_is_written_in_place_of_another(tmp_path, start):
    for state in (start, advance(start)):
        checkpoint.write(tmp_path / "one", state, "a run")
        assert checkpoint.damage(tmp_path / "one") is None
        assert_bit_equal(checkpoint.read(tmp_path / "one", abstract(start), "a run"), state)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, start):
    """Checkpoints 0 and 1."""
    directory = tmp_path_factory.mktemp("saved")
    save_all(directory, start, [0.1, 0.2]).close()
    return directory


DAMAGES = {
    "lost": lambda path, content: path.unlink(),
    "empty": lambda path, content: path.write_bytes(b""),
    "torn": lambda path, content: path.write_bytes(content[: len(content) // 2]),
    "zeroed": lambda path, content: path.write_bytes(bytes(len(content))),
    "zeroed in part": lambda path, content: path.write_bytes(content[:-9] + bytes(9)),
    "garbage": lambda path, content: path.write_bytes(np.random.default_rng(0).bytes(len(content))),
    "other JSON": lambda path, content: path.write_bytes(b"[1]"),
}


@pytest.mark.parametrize(
    "kind", [kind if kind in ("lost", "torn") else pytest.param(kind, marks=pytest.mark.slow) for kind in DAMAGES]
)
def test_whichever_file_is_damaged_the_checkpoint_before_takes_over(saved, tmp_path, start, kind, capsys):
    names = [path.relative_to(saved) for path in (saved / "1").rglob("*") if path.is_file()]
    assert len(names) > 8
    for name in (name for name in names if name.name != "commit_success.txt"):  # Which nobody reads.
        directory = tmp_path / str(name).replace("/", "_")
        shutil.copytree(saved, directory)
        DAMAGES[kind](directory / name, (saved / name).read_bytes())
        checkpoints = opened(directory)
        iteration, state = checkpoints.restore(abstract(start))
        assert_bit_equal(state, start)
        if iteration == 1:  # What Orbax's merge leaves of each process's own tree is not read.
            assert name.match("ocdbt.process_0/d/*") and kind != "lost"
            checkpoints.close()
            continue
        told = capsys.readouterr().out.splitlines()
        assert len(told) == 1 and told[0].startswith(f"{directory}/1 is damaged: "), name
        checkpoints.save(1, start, {"reward": 0.3})
        checkpoints.close()
        assert {path.name for path in directory.iterdir()} == {"0", "1", "1.damaged"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("CONTENTS.json", "it has no CONTENTS.json"),
        ("state/manifest.ocdbt", "its file state/manifest.ocdbt is missing"),
    ],
)
def test_what_is_not_there_is_a_save_that_was_not_finished(saved, tmp_path, name, told):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    (tmp_path / "1" / name).unlink()
    assert checkpoint.survey(tmp_path) == ([0], {1: told})


def test_a_checksum_tells_every_bit_and_place():
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    flipped = x.view(np.uint32) ^ (np.uint32(1) << np.arange(12, dtype=np.uint32).reshape(3, 4) * 2)
    others = [np.where(np.arange(12).reshape(3, 4) == i, flipped.view(np.float32), x) for i in range(12)]
    others += [-x, x[::-1], x[:, ::-1], np.zeros_like(x), np.roll(x, 1)]
    sums = checksums.of(dict(enumerate(map(jax.numpy.asarray, [x, *others]))))
    assert len({*sums.values()}) == 1 + len(others)


def test_nothing_of_the_state_is_read_back_while_it_is_saved(tmp_path, start, monkeypatch):
    read, opened_for = [], gpath.PosixGPath.read_bytes
    monkeypatch.setattr(gpath.PosixGPath, "read_bytes", lambda self: read.append(self) or opened_for(self))
    save_all(tmp_path, start, [0.1]).close()
    assert read and not [path for path in read if path.parent.name == "d"]


@pytest.mark.parametrize("name", ["sweep[lr=1e-3]", "a*b", "what?", "[!a]"])
def test_a_folder_is_not_a_pattern(tmp_path, start, name):
    (tmp_path / "sweepl").mkdir()
    checkpoint.write(tmp_path / name / "one", start, "a run")
    assert checkpoint.damage(tmp_path / name / "one") is None
    assert_bit_equal(checkpoint.read(tmp_path / name / "one", abstract(start), "a run"), start)
    save_all(tmp_path / name / "many", start, [0.1]).close()
    checkpoints = opened(tmp_path / name / "many")
    assert_bit_equal(checkpoints.restore(abstract(start))[1], start)
    checkpoints.close()


def test_a_backslash_is_refused_by_name(tmp_path, start):
    with pytest.raises(CheckpointError, match=r"a\\b/one has a backslash.*--workdir"):
        checkpoint.write(tmp_path / "a\\b/one", start, "a run")


def test_damage_is_told_by_file(saved, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    (tmp_path / "1/facts/metadata").write_text("{}")
    (tmp_path / "0/facts/metadata").unlink()
    assert checkpoint.damage(tmp_path / "1") == "its file facts/metadata is not what was saved"
    assert checkpoint.damage(tmp_path / "0") == "its file facts/metadata is missing"


def test_where_none_is_whole_nothing_starts_anew(saved, tmp_path):
    """Not at once, and not when it is tried again."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    (tmp_path / "1/facts/metadata").unlink()
    opened(tmp_path).close()  # Puts 1 aside.
    (tmp_path / "0/facts/metadata").unlink()
    for told in (r"0 \(its file facts/metadata is missing\), 1.damaged",) * 2:
        with pytest.raises(CheckpointError, match=f"no checkpoint in {tmp_path} can be read: {told}. Put a copy back"):
            opened(tmp_path)
    shutil.rmtree(tmp_path / "0")
    with pytest.raises(CheckpointError, match="can be read: 1.damaged. "):
        opened(tmp_path)


@pytest.mark.parametrize("limit", [0, 100, 1000])
def test_a_save_that_cannot_be_written_leaves_the_others_alone(saved, tmp_path, start, limit):
    """No file may grow beyond `limit` bytes, which fails Orbax's and TensorStore's writes as a full disk does.

    Which error comes out depends on which thread is first: the write's, or that of another one's clearing up. A process
    would end with it; here what is still being cleared up is waited for.
    """
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with (
            pytest.raises(OSError, match="File too large|Directory not empty|No such file or directory"),
            opened(tmp_path) as checkpoints,
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            checkpoints.save(2, start, {"reward": 0.3})
        wait_until_quiet(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.survey(tmp_path) == ([0, 1], {})
    checkpoints = opened(tmp_path)
    checkpoints.save(2, start, {"reward": 0.3})
    checkpoints.close()
    assert checkpoint.survey(tmp_path) == ([0, 1, 2], {})
