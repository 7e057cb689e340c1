"""The loop on a small run: one look at the device an iteration, and every way in which it stops and goes on."""

import dataclasses
import math
import pathlib
import resource
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.models import transformer
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Program, train_step
from negot_jax.rl.updates import TrainState
from negot_jax.training import checkpoint, loop, preemption
from negot_jax.training.checkpoint import CheckpointError, Folder
from negot_jax.training.metrics import read_csv
from tests.rl import small as world
from tests.training.disk import wait_until_quiet

RUN_ID = "a run"
LAST = 4


@dataclasses.dataclass(frozen=True)
class Small:
    """The parts of a run, and what it left behind when nothing interrupted it."""

    program: Program
    tables: Tables
    workdir: pathlib.Path
    fetches: int = 0

    def state(self) -> TrainState:
        weights = transformer.init(jax.random.key(0), self.program.model)
        return self.program.init_state(jax.random.key(2), weights)

    def train(self, workdir: pathlib.Path, state: TrainState | None = None, run_id=RUN_ID, **options):
        config = loop.TrainingConfig(iterations=LAST, checkpoint_every=2, **options.pop("config", {}))
        folder = Folder(workdir, run_id)
        return loop.train(config, self.program, state or self.state(), self.tables, folder, **options)

    def stop(self, workdir: pathlib.Path, at: int, what: signal.Signals = signal.SIGTERM) -> None:
        """A signal comes while the step from iteration `at` is dispatched."""

        def stepped(*args, step=train_step):
            if int(args[1].iteration) == at:
                signal.raise_signal(what)
            return step(*args)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(preemption.Preempted):
            patch.setattr("negot_jax.rl.train_step.train_step", stepped)
            self.train(workdir)

    def assert_same(self, workdir: pathlib.Path) -> None:
        """Bit for bit: the last checkpoint, and the metrics but for their timing."""
        path = f"checkpoints/{LAST}"
        ours, expected = (checkpoint.read(folder / path, self.state(), RUN_ID) for folder in (workdir, self.workdir))
        unwrap = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(unwrap(a), unwrap(b)), ours, expected)
        ours, expected = (read_csv(folder / "metrics.csv") for folder in (workdir, self.workdir))
        assert ours.keys() == expected.keys()
        for name in (name for name in ours if not name.startswith("perf/")):
            np.testing.assert_array_equal(ours[name], expected[name], err_msg=name)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Small:
    products = world.catalog()
    words = world.tokenizer(products)
    learner = dataclasses.replace(world.LEARNER, minibatches=2)
    program = world.program(words.vocab_size, config=learner, iterations=LAST)
    made = Small(program, world.tables(products, words), pathlib.Path())
    made.train(tmp_path_factory.mktemp("compiled"))
    fetches, device_get, workdir = [], jax.device_get, tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.jax, "device_get", lambda tree: fetches.append("loss" in tree) or device_get(tree))
        made.train(workdir)
    return dataclasses.replace(made, workdir=workdir, fetches=sum(fetches))


def test_one_device_get_an_iteration(small):
    assert small.fetches == LAST


def test_the_learning_rate_is_logged(small):
    """Of each iteration's first update, of two: a warmup of 10 updates to 1e-3."""
    rates = read_csv(small.workdir / "metrics.csv")["learning_rate"]
    np.testing.assert_allclose(rates, 1e-4 * np.arange(0, 2 * LAST, 2), rtol=1e-6)


@pytest.mark.parametrize(("at", "what"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_signal_saves_the_step_at_hand_and_it_goes_on_later(small, tmp_path, at, what):
    before = signal.getsignal(signal.SIGINT)  # Ignored, where a shell has put the tests into the background.
    small.stop(tmp_path, at, what)
    assert checkpoint.survey(tmp_path / "checkpoints")[0][-1] == at + 1
    small.train(tmp_path)
    small.assert_same(tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_it_traces_the_iterations_asked_for(small, tmp_path, monkeypatch, capsys):
    traced = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: traced.append([folder]))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: traced[-1].append(stepped[0]))
    stepped, step = [0], train_step

    def counting(*args):
        if traced and len(traced[-1]) == 1:
            traced[-1].append(stepped[0])
        stepped[0] += 1
        return step(*args)

    monkeypatch.setattr("negot_jax.rl.train_step.train_step", counting)
    small.train(tmp_path, watched=loop.Watched((1, 2)))
    assert traced == [[str(tmp_path / "profile"), 1, 3]]  # Began before iteration 1, ended before iteration 3.
    small.assert_same(tmp_path)
    assert "Nothing is traced" not in capsys.readouterr().out
    small.train(tmp_path, watched=loop.Watched((1, 2)))
    assert "Nothing is traced: iterations 1 to 2 are trained already." in capsys.readouterr().out


def test_groups_that_earned_the_same_are_told_of_once(small, tmp_path, capsys, monkeypatch):
    def flat(*args, step=train_step):
        state, metrics, sample = step(*args)
        return state, metrics | {"grad_norm": (jnp.float32(0), jnp.float32(1))}, sample

    monkeypatch.setattr("negot_jax.rl.train_step.train_step", flat)
    small.train(tmp_path)
    assert capsys.readouterr().out.count("iteration 0: no gradient") == 1


def test_a_signal_while_it_compiles_is_obeyed_at_once(small, tmp_path):
    small.stop(tmp_path, 0)
    assert checkpoint.survey(tmp_path / "checkpoints") == ([], {})


def test_what_died_between_two_checkpoints_is_played_again(small, tmp_path):
    class Death(Exception):
        pass

    def dies(*args, step=train_step):
        if int(args[1].iteration) == 3:
            raise Death
        return step(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Death):
        patch.setattr("negot_jax.rl.train_step.train_step", dies)
        small.train(tmp_path)
    assert checkpoint.survey(tmp_path / "checkpoints") == ([2], {})
    small.train(tmp_path)
    small.assert_same(tmp_path)


def test_a_damaged_checkpoint_costs_its_iterations_alone(small, tmp_path, capsys):
    shutil.copytree(small.workdir, tmp_path, dirs_exist_ok=True)
    (tmp_path / f"checkpoints/{LAST}/state/manifest.ocdbt").write_bytes(bytes(100))
    small.train(tmp_path)
    assert f"checkpoints/{LAST} is damaged: " in capsys.readouterr().out
    small.assert_same(tmp_path)


def test_checkpoints_of_another_run_are_refused(small, tmp_path):
    shutil.copytree(small.workdir, tmp_path, dirs_exist_ok=True)
    with pytest.raises(
        CheckpointError, match=f"checkpoints/{LAST} belongs to another run: a run in the checkpoint, another"
    ):
        small.train(tmp_path, run_id="another")


def test_a_full_disk_ends_it_and_nothing_saved_is_lost(small, tmp_path):
    """No file may grow beyond 20 kB, which a checkpoint does and the table does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    small.stop(tmp_path, 1)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(OSError, match="File too large"):
            small.train(tmp_path)
        wait_until_quiet(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.survey(tmp_path / "checkpoints") == ([2], {})
    small.train(tmp_path)
    small.assert_same(tmp_path)


def test_weights_that_are_not_finite_stop_it(small, tmp_path):
    state = small.state()
    state = state.replace(weights=jax.tree.map(lambda x: x * jnp.nan, state.weights))
    message = r"iteration 1: the last 4 updates .*max_skipped_updates=3.* First bad quantity: sampling gap\."
    with pytest.raises(loop.NotFiniteError, match=message):
        small.train(tmp_path, state, config={"max_skipped_updates": 3})
    assert checkpoint.survey(tmp_path / "checkpoints") == ([], {})
    assert np.isnan(read_csv(tmp_path / "metrics.csv")["loss"]).all()


def test_updates_that_would_break_the_weights_stop_it(small, tmp_path):
    """The optimizer's state is not finite, and all else is."""
    state = small.state()
    spoil = lambda x: x * jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else x
    state = state.replace(opt_state=jax.tree.map(spoil, state.opt_state))
    with pytest.raises(loop.NotFiniteError, match=r"iteration 0: the last 2 updates .* First bad quantity: weights\."):
        small.train(tmp_path, state, config={"max_skipped_updates": 2})


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (("sampler_gap", "reward", "loss", "grad_norm"), "sampling gap"),
        (("reward", "loss", "grad_norm"), "reward"),
        (("loss", "grad_norm"), "loss"),
        (("grad_norm",), "gradient norm"),
        ((), "weights"),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_bad_quantity_is_named(bad, named, value):
    metrics = ("sampler_gap", "reward", "loss", "grad_norm")
    scalars = {name: value if name in bad else 0.5 for name in metrics} | {"skipped_in_a_row": 5.0}
    with pytest.raises(loop.NotFiniteError, match=f"First bad quantity: {named}"):
        loop.require_progress(7, scalars, 5)
    loop.require_progress(7, scalars, 6)
    del scalars["loss"]  # No token counted, so it has no value.
    loop.require_progress(7, scalars, 6)


def _spoiled(spoilt: int, step=train_step):
    """`train_step`, with a loss that is not finite in one iteration."""

    def stepped(*args):
        iteration = int(args[1].iteration)
        state, metrics, sample = step(*args)
        if iteration == spoilt:
            metrics["loss"] = (jnp.float32(jnp.nan), metrics["loss"][1])
        return state, metrics, sample

    return stepped


def test_a_state_whose_metrics_are_not_finite_is_not_saved(small, tmp_path, monkeypatch):
    monkeypatch.setattr("negot_jax.rl.train_step.train_step", _spoiled(1))
    small.train(tmp_path)
    assert checkpoint.survey(tmp_path / "checkpoints") == ([LAST], {})


def test_a_last_iteration_that_is_not_finite_is_an_error(small, tmp_path, monkeypatch):
    monkeypatch.setattr("negot_jax.rl.train_step.train_step", _spoiled(LAST - 1))
    message = "iteration 3, the last, is not saved. First quantity that is not finite: loss. .* latest checkpoint is 2;"
    for _ in range(2):
        with pytest.raises(loop.NotFiniteError, match=message):
            small.train(tmp_path)


def test_a_sample_of_episodes_is_kept_every_few_iterations(small, tmp_path):
    def kept(every):
        found = {}
        watched = loop.Watched(keep=found.__setitem__)
        small.train(tmp_path / str(every), watched=watched, config={"transcripts_every": every})
        return found

    samples = kept(3)
    assert list(samples) == [0, 3] and kept(0) == {}
    assert all(len(np.unique(sample.state.scenario.key, axis=0)) == 4 for sample in samples.values())
    assert samples[0].buyer.tokens_BxT.shape[0] == len(samples[0].state.end) == 4


@pytest.mark.parametrize("name", ["iterations", "checkpoint_every", "keep", "max_skipped_updates"])
def test_impossible_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"training.{name}=0 must be at least 1"):
        loop.TrainingConfig(**{name: 0})
