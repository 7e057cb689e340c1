"""Two real processes of four devices each: they train as one device does, leave together, and four devices go on."""

import functools
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from etils import epath
import numpy as np
import pytest

from experiments import cli
from launch import local
from negot_jax import run
from negot_jax.run import manifest
from negot_jax.training import checkpoint, distributed
from negot_jax.training.metrics import read_csv
from tests import tiny_run

LAST = 12
# The training command without its report, which would compile as much again.
_TRAIN = """
import runpy
from negot_jax.run import reporting
reporting.Evaluation.report = lambda *_: "Trained."
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
"""
_SIZES = {
    "game.turns": 1,
    "warm_start.steps": 0,
    "learner.scenarios": 8,
    "model.heads": 2,
    "model.kv_heads": 2,
    "model.head_dim": 8,
    "optimizer.warmup": 0,
    "training.iterations": LAST,
    "training.checkpoint_every": LAST,
}
_MOE = {"model.experts": 4, "model.active_experts": 2}
CASES = [
    pytest.param({}, {"fsdp": 2, "tensor": 2}, {"tensor": 2}, marks=pytest.mark.slow),
    pytest.param(_MOE, {"fsdp": 2, "tensor": 2, "expert": 2}, {"fsdp": 2, "expert": 2}, marks=pytest.mark.slow),
    pytest.param({}, {"fsdp": 8}, {"fsdp": 4}, marks=pytest.mark.slow),
    pytest.param(_MOE, {"expert": 4}, {}, marks=pytest.mark.slow),
]


def train(workdir: pathlib.Path, model: dict, mesh: dict) -> list[str]:
    """The command."""
    overrides = _SIZES | model | {f"mesh.{axis}": size for axis, size in mesh.items()}
    flags = [f"--config.{name}={value}" for name, value in overrides.items()]
    return [sys.executable, "-c", _TRAIN, *tiny_run.arguments(workdir), *flags]


def launch(processes: int, devices: int, command: list[str], **options) -> subprocess.Popen:
    line = [sys.executable, "-m", "launch.local", f"--processes={processes}", f"--devices_per_process={devices}", "--"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tiny_run.ROOT}
    return subprocess.Popen(line + command, **pipes, **options)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err[-3000:]
    return out


@functools.cache
def alone(model: tuple) -> dict[str, np.ndarray]:
    """The metrics of the same run in this process, on its one device."""
    config = tiny_run.config(**{name.replace(".", "__"): value for name, value in (_SIZES | dict(model)).items()})
    with tempfile.TemporaryDirectory() as folder:
        run.build(config, folder).train()
        return read_csv(epath.Path(folder) / "metrics.csv")


@pytest.mark.parametrize(("model", "eight", "four"), CASES)
def test_two_processes_train_as_one_device_and_another_mesh_goes_on(tmp_path, model, eight, four):
    many = tmp_path / "many"
    process = launch(2, 4, train(many, model, eight))
    try:
        while process.poll() is None and not ((many / "metrics.csv").exists() and rows(many) >= 2):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
        assert process.returncode == cli.PREEMPTED, err[-3000:]
        assert (many / cli.MARKER).exists()
        stopped = rows(many)
        assert 3 <= stopped < LAST
        # All of them saved the state after the same iteration, and one sealed it.
        assert checkpoint.survey(many / "checkpoints") == ([stopped], {})
        assert manifest.read(many)["starts"][0]["devices"]["processes"] == 2
        assert "Trained." in finish(launch(1, 4, train(many, model, four)))
    finally:
        process.kill()
        process.wait()
    meshes = [start["config"]["mesh.expert"] for start in manifest.read(many)["starts"]]
    assert meshes == [mesh.get("expert", 1) for mesh in (eight, four)]
    assert not (many / cli.MARKER).exists()
    ours, expected = read_csv(many / "metrics.csv"), alone(tuple(model.items()))
    np.testing.assert_array_equal(ours["iteration"], np.arange(LAST))
    np.testing.assert_allclose(ours["loss"][:3], expected["loss"][:3], rtol=1e-5, atol=1e-5)
    assert np.isfinite(ours["loss"]).all()


def test_a_workdir_that_is_another_one_on_each_machine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "agree", lambda flag: not flag)  # What another process says.
    with pytest.raises(ValueError, match=f"--workdir={tmp_path}: not every process sees .* gs://bucket/run"):
        run.build(tiny_run.config(), tmp_path).train()


def rows(workdir: pathlib.Path) -> int:
    return (workdir / "metrics.csv").read_bytes().count(b"\n") - 1


_SAYS = """
import json, os, sys, time
number = int(os.environ["JAX_PROCESS_ID"])
print("[Gloo] Rank is connected")
print(json.dumps({name: os.environ[name] for name in (
    "JAX_NUM_PROCESSES", "JAX_COORDINATOR_ADDRESS", "XLA_FLAGS", "JAX_PLATFORMS")}), flush=True)
"""


@pytest.mark.parametrize(
    ("then", "code", "told"),
    [
        ("", 0, ""),
        ("sys.exit(7) if number == 1 else time.sleep(100)", 7, "why 1\nprocess 1 of 3 ended with exit code 7\n"),
        ("time.sleep((2 - number) / 4); sys.exit(7)", 7, "process 2 of 3 ended with exit code 7\n"),
        ("time.sleep(number / 4); sys.exit(75)", 75, ""),
        ("time.sleep(2); sys.exit(75) if number == 1 else time.sleep(100)", 75, ""),
        (
            "os.kill(os.getpid(), 9) if number == 1 else time.sleep(100)",
            128 + 9,
            "why 1\nprocess 1 of 3 was ended by SIGKILL\n",
        ),
    ],
)
def test_the_first_failure_ends_all_and_its_code_is_passed_on(then, code, told, monkeypatch):
    """What it said last is told; but not what the first process, which was heard, has said of it already."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    began = time.monotonic()
    process = launch(3, 2, [sys.executable, "-c", f"{_SAYS}\nprint('why', number, file=sys.stderr)\n{then}"])
    out, err = process.communicate()
    assert process.returncode == code and time.monotonic() - began < 15
    (line,) = out.splitlines()  # Of the first process alone, without noise.
    said = json.loads(line)
    assert said["JAX_NUM_PROCESSES"] == "3" and said["JAX_COORDINATOR_ADDRESS"].startswith("127.0.0.1:")
    assert said["XLA_FLAGS"].endswith("optimization_level=0 --xla_force_host_platform_device_count=2")
    assert re.sub("{.*}\n", "", err) == f"why 0\n{told}"


def test_a_run_goes_on_when_nobody_reads_its_output():
    process = launch(1, 1, [sys.executable, "-c", "for number in range(100_000): print(number)"])
    process.stdout.close()
    assert process.wait(timeout=30) == 0


def test_each_process_has_a_number():
    environments = [local.environment({"HOME": "/"}, number, 2, 4, 99) for number in range(2)]
    assert [own[distributed.PROCESS] for own in environments] == ["0", "1"]
    assert {distributed.ADDRESS, distributed.PROCESSES} < environments[0].keys()
    assert all(own["HOME"] == "/" and own["XLA_FLAGS"].endswith("=4") for own in environments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the command is missing: ... -- python"),
        (["--processes=0", "--", "true"], "--processes=0"),
        (["--process=2", "--", "true"], "'process'. Did you mean: processes"),
        (["--processes=2", "python", "-m", "experiments.train"], "the -- before 'python' is missing"),
        (["--", "no-such-command"], "there is no command 'no-such-command'"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    line = [sys.executable, "-m", "launch.local", *arguments]
    done = subprocess.run(line, cwd=tiny_run.ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and message in done.stderr
