"""The real command killed, interrupted, short of disk, with damaged files: given again, it ends as if nothing was."""

import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments import cli
from negot_jax.training.metrics import read_csv
from tests import forked, tiny_run

LAST = tiny_run.ITERATIONS


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """The folder of a run that nothing interrupted."""
    return finish(tmp_path_factory.mktemp("whole"))


@contextlib.contextmanager
def running(workdir: pathlib.Path, **options):
    """The command at work; gone at the end, whatever the test has found."""
    process = subprocess.Popen(
        tiny_run.command(workdir),
        cwd=tiny_run.ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(workdir: pathlib.Path) -> pathlib.Path:
    code, out, err = forked.run("experiments.train", tiny_run.arguments(workdir))
    assert code == 0, err
    assert "Results" in out
    return workdir


def rows(workdir: pathlib.Path) -> int:
    """How many iterations `metrics.csv` tells of."""
    path = workdir / "metrics.csv"
    return max(path.read_bytes().count(b"\n") - 1, 0) if path.exists() else 0


def saves(workdir: pathlib.Path) -> int:
    """The iterations in the latest checkpoint, whether it is whole or still being written."""
    return max((int(path.name.split(".")[0]) for path in (workdir / "checkpoints").glob("[0-9]*")), default=0)


# What has happened when a moment comes, by the folder and its rows at the start; and within how many seconds it comes.
MOMENTS = {
    "start-up": (lambda workdir, before: True, 3.0),
    "warm start": (lambda workdir, before: (workdir / "tokenizer.model").exists(), 3.0),
    "training": (lambda workdir, before: rows(workdir) != before, 0.3),
    "save": (lambda workdir, before: saves(workdir) > before, 0.03),
    "report": (lambda workdir, before: (workdir / f"checkpoints/{LAST}").exists(), 4.0),
}


def send(process: subprocess.Popen, workdir: pathlib.Path, what: signal.Signals, moment: str, seed: int = 0) -> int:
    """Sends a signal at a moment. Returns the exit code."""
    has_come, seconds = MOMENTS[moment]
    before = rows(workdir)
    while process.poll() is None and not has_come(workdir, before):
        time.sleep(0.001)
    time.sleep(seconds * random.Random(seed).random())
    process.send_signal(what)
    process.communicate()
    return process.returncode


def state(workdir: pathlib.Path) -> dict[str, bytes]:
    """Every leaf of the last checkpoint, weights, optimizer and key, by its path."""
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        path = workdir / "checkpoints" / str(LAST)
        restored = checkpointer.restore(path, args=ocp.args.Composite(state=ocp.args.StandardRestore())).state
    return {jax.tree_util.keystr(path): data(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(restored)[0]}


def data(leaf) -> bytes:
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes()


def assert_same(workdir: pathlib.Path, whole: pathlib.Path) -> None:
    """Bit for bit: the last state, the metrics but for their timing, and what the report says."""
    ours, expected = state(workdir), state(whole)
    assert ours.keys() == expected.keys() and any("key" in name for name in ours)
    assert [name for name in ours if ours[name] != expected[name]] == []
    ours, expected = (read_csv(folder / "metrics.csv") for folder in (workdir, whole))
    assert ours.keys() == expected.keys()
    for name in (name for name in ours if not name.startswith("perf/")):
        np.testing.assert_array_equal(ours[name], expected[name], err_msg=name)
    ours, expected = (json.loads((folder / "report/evaluation.json").read_text()) for folder in (workdir, whole))
    assert ours["rows"] == expected["rows"]


@pytest.mark.slow
def test_a_whole_run_leaves_what_it_should(whole):
    curves = read_csv(whole / "metrics.csv")
    np.testing.assert_array_equal(curves["iteration"], np.arange(LAST))
    for name in ("reward", "loss", "sampler_gap", "padding_efficiency", "perf/step_seconds"):
        assert np.isfinite(curves[name]).all(), name
    assert list((whole / "tensorboard").glob("events*"))
    report = whole / "report"
    for name in (
        "evaluation.json",
        "table.md",
        "learning_curves.png",
        "rewards.png",
        "transcripts.md",
        "episodes.jsonl",
    ):
        assert (report / name).stat().st_size > 0, name
    for row in ("warm start", "trained", "linear", "tuned linear"):
        assert row in (report / "table.md").read_text()
    assert "not at its end" not in (report / "table.md").read_text()
    assert "NaN" not in (report / "evaluation.json").read_text()
    transcript = (report / "transcripts.md").read_text()
    assert "Turn 1, Buyer" in transcript and "Turn 1, Seller" in transcript


@pytest.mark.slow
def test_interrupted_once_and_killed_once_is_uninterrupted(whole, tmp_path):
    for what, moment in ((signal.SIGTERM, "training"), (signal.SIGKILL, "save")):
        with running(tmp_path) as process:
            code = send(process, tmp_path, what, moment)
        if what != signal.SIGKILL:
            assert code == cli.PREEMPTED == 75
            assert (tmp_path / cli.MARKER).exists()
            # What was played is saved, up to the iteration at which the signal came.
            assert (tmp_path / "checkpoints" / str(rows(tmp_path))).exists()
        else:
            assert code == -signal.SIGKILL
            assert not (tmp_path / cli.MARKER).exists()
    finish(tmp_path)
    assert not (tmp_path / cli.MARKER).exists()
    assert_same(tmp_path, whole)


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_python_imports_is_answered_in_one_line(what):
    command = [sys.executable, "-X", "importtime", "-m", "experiments.pool"]
    with subprocess.Popen(command, cwd=tiny_run.ROOT, stderr=subprocess.PIPE, text=True) as process:
        while "numpy" not in process.stderr.readline():  # The first import of many.
            assert process.poll() is None
        process.send_signal(what)
        said = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
    assert process.returncode == cli.PREEMPTED
    assert said == ["", "interrupted while starting: run the same command again"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_is_uninterrupted(whole, tmp_path, moment, seed):
    with running(tmp_path) as process:
        assert send(process, tmp_path, signal.SIGKILL, moment, seed) == -signal.SIGKILL
    finish(tmp_path)
    assert_same(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted_at_any_moment_is_uninterrupted(whole, tmp_path, moment, what):
    with running(tmp_path) as process:
        code = send(process, tmp_path, what, moment, seed=what)
    if moment == "start-up":  # There is nothing to mark yet; in its first instants Python does not answer either.
        assert code in (cli.PREEMPTED, 128 + what, -what)
    else:
        assert code == cli.PREEMPTED and (tmp_path / cli.MARKER).exists()
    finish(tmp_path)
    assert not (tmp_path / cli.MARKER).exists()
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_report_says_that_a_run_is_not_at_its_end(tmp_path):
    with running(tmp_path) as process:
        assert send(process, tmp_path, signal.SIGTERM, "save") == cli.PREEMPTED
    command = [sys.executable, "-m", "experiments.evaluate", f"--workdir={tmp_path}"]
    done = subprocess.run(command, cwd=tiny_run.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = f"The run is not at its end: this is after {rows(tmp_path)} of {LAST} iterations."
    assert said in done.stdout and said in (tmp_path / "report/table.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [0, 1, 7, 16, 64])
def test_a_full_disk_stops_with_one_line_and_harms_nothing(whole, tmp_path, kilobytes):
    """No file may grow beyond so much: the manifest, the tokenizer, the warm start, the checkpoints fail in turn."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, resource.RLIM_INFINITY))

    with running(tmp_path, preexec_fn=limit) as process:
        _, err = process.communicate()
        assert process.returncode == 1
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: [Errno 27] File too large")
    assert "Make room, then the same command goes on" in err.splitlines()[-1]
    finish(tmp_path)
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_damaged_checkpoints_and_a_damaged_warm_start_cost_time_alone(whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for folder in (f"checkpoints/{LAST}", "warm_start"):
        largest = max((tmp_path / folder).rglob("*"), key=lambda path: path.stat().st_size)
        os.truncate(largest, largest.stat().st_size // 2)
    with running(tmp_path) as process:
        out, err = process.communicate()
        assert process.returncode == 0, err
    told = [line for line in out.splitlines() if "is damaged" in line]
    assert (
        len(told) == 2
        and f"checkpoints/{LAST} is damaged" in "".join(told)
        and "warm_start is damaged" in "".join(told)
    )
    assert_same(tmp_path, whole)
