"""The whole command on a small run: artifacts, resume bit for bit, one look at the device an iteration."""

import dataclasses
import json
import pathlib

from absl import flags
import jax
import numpy as np
import pytest

from experiments import evaluate, setup, train
from experiments.configs import quickstart
from negot_jax.config import from_config_dict
from negot_jax.rl import learner
from negot_jax.training import loop, manifest
from negot_jax.training.checkpoint import Checkpoints
from negot_jax.training.metrics import read_csv


def _config(iterations: int) -> setup.Config:
    config = quickstart.get_config()
    config.catalog.test = 8
    config.game.turns = 2
    config.language.update(vocab_size=512, text_tokens=2, message_tokens=32)
    config.model.update(layers=1, width=16, heads=1, head_dim=16, mlp=32)
    config.warm_start.update(steps=3, episodes=16, micro_batches=1)
    config.learner.update(scenarios=4, group=2, micro_batches=1)
    config.training.update(iterations=iterations, checkpoint_every=2)
    config.evaluation.update(episodes=2, batch=16, transcripts=2, tuning_draws=1, buyers=("linear",))
    return from_config_dict(setup.Config, config)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four iterations without a break."""
    workdir = tmp_path_factory.mktemp("whole")
    run = setup.prepare(_config(4), workdir, print_line=lambda line: None)
    fetches = []
    device_get = jax.device_get
    with pytest.MonkeyPatch.context() as patch:
        train.train(run, workdir)  # Compiles; the count is made on a second, equal run.
        patch.setattr(loop.jax, "device_get", lambda tree: fetches.append(1) or device_get(tree))
        other = tmp_path_factory.mktemp("counted")
        state = learner.init_state(jax.random.key(0), run.init_weights(), run.learner.make_optimizer())
        loop.train(run.config.training, run.learner, state, run.train_env, other)
    return run, workdir, len(fetches)


def _last(run, workdir):
    target = learner.init_state(run.key, run.init_weights(), run.learner.make_optimizer())
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return checkpoints.restore(checkpoints.latest, target)


def test_one_device_get_an_iteration(finished):
    assert finished[2] == 4


def test_metrics_are_written_for_every_iteration(finished):
    run, workdir, _ = finished
    curves = read_csv(workdir / "metrics.csv")
    np.testing.assert_array_equal(curves["iteration"], np.arange(4))
    for name in ("reward", "loss", "sampler_gap", "padding_efficiency", "perf/step_seconds"):
        assert np.isfinite(curves[name]).all(), name
    assert list((workdir / "tensorboard").glob("events*"))


def test_resumed_is_uninterrupted(finished, tmp_path):
    """Stopped after two of four iterations and run again: the same state and metrics to the last bit."""
    run, workdir, _ = finished

    class Stop(Exception):
        pass

    def stop_after(count, step):
        def limited(*args):
            nonlocal count
            count -= 1
            if count < 0:
                raise Stop
            return step(*args)

        return limited

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(loop.learner, "train_step", stop_after(3, learner.train_step))
        train.train(run, tmp_path)
    train.train(run, tmp_path)
    ours, host = _last(run, tmp_path)
    expected, _ = _last(run, workdir)
    assert host == {"next_iteration": 4}
    unwrap = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(unwrap(a), unwrap(b)), ours, expected)
    for name in ("reward", "loss", "entropy"):
        np.testing.assert_array_equal(
            read_csv(tmp_path / "metrics.csv")[name], read_csv(workdir / "metrics.csv")[name], err_msg=name
        )


def test_the_report_holds_what_it_should(finished):
    run, workdir, _ = finished
    text = evaluate.report(run, workdir)
    report = workdir / "report"
    for name in ("evaluation.json", "table.md", "learning_curves.png", "rewards.png", "transcripts.md", "totals.npz"):
        assert (report / name).stat().st_size > 0, name
    for row in ("warm start", "trained", "linear", "tuned linear"):
        assert row in text
        assert row in (report / "table.md").read_text()
    numbers = json.loads((report / "evaluation.json").read_text())
    assert "NaN" not in (report / "evaluation.json").read_text()
    assert numbers
    transcript = (report / "transcripts.md").read_text()
    assert "Turn 1, Buyer" in transcript and "Turn 1, Seller" in transcript


def test_the_config_file_is_complete_and_documented():
    config = from_config_dict(setup.Config, quickstart.get_config())
    assert config.catalog.prices == "normalised" and config.language.decoding == "constrained"
    assert flags.FLAGS["config"].help and flags.FLAGS["workdir"].help


def test_another_config_needs_another_workdir(finished, tmp_path):
    manifest.record_start(tmp_path, _config(4), 0, {})
    with pytest.raises(ValueError, match="training.iterations"):
        manifest.record_start(pathlib.Path(tmp_path), _config(6), 0, {})


def test_real_dollars_and_free_decoding(tmp_path):
    """What the quickstart simplifies is a flag away."""
    config = _config(1)
    config = dataclasses.replace(
        config,
        catalog=dataclasses.replace(config.catalog, prices="dollars"),
        language=dataclasses.replace(config.language, decoding="free", prompts="full", message_tokens=40),
        warm_start=dataclasses.replace(config.warm_start, steps=0),
    )
    run = setup.prepare(config, tmp_path, print_line=lambda line: None)
    assert run.train_env.form is None
    assert np.ptp(run.train.price) > 100_000
    train.train(run, tmp_path)
    curves = read_csv(tmp_path / "metrics.csv")
    # Random weights cannot keep the form, and the trainer sees every broken message.
    assert curves["format_error"] == 1 and curves["reward"] == -1
    assert np.isfinite(curves["loss"]).all()
