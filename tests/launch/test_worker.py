"""A command that outlives its connection: started once, followed, its end written down."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from launch import worker

ROOT = pathlib.Path(__file__).parents[2]
SLEEP = ("sh", "-c", "echo asleep; exec sleep 60")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder in which nothing is left running."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield tmp_path
    if (tmp_path / ".launch/lock").exists():
        worker.result(grace=0)


def call(*arguments: str) -> subprocess.CompletedProcess:
    """As the launcher does; -S spares a second a dozen times, since nothing that is installed is needed."""
    return subprocess.run([sys.executable, "-S", "-m", "launch.worker", *arguments], capture_output=True, text=True)


def eventually(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "program, code",
    [("pass", "0"), ("exit(75)", "75"), ("import os; os.kill(os.getpid(), 9)", "137")],
)
def test_how_a_command_ended(home, program, code):
    assert call("start", "python", "-c", f"print('it runs')\n{program}").returncode == 0
    assert "it runs\n" in call("follow").stdout
    assert call("result").stdout == f"[result {socket.gethostname()} {code}]\n"
    assert call("status").stdout.endswith(f"ended with exit code {code}\n")


def test_a_command_that_is_not_there(home):
    call("start", "no-such-program")
    assert "127]" in call("result").stdout
    assert "no-such-program" in call("follow").stdout


def test_it_is_started_once(home):
    assert call("start", *SLEEP).returncode == 0
    eventually(lambda: "\nasleep\n" in (home / ".launch/log").read_text())
    assert call("start", *SLEEP).stdout == "It is running already.\n"
    other = call("start", "python", "-c", "pass")
    assert other.returncode == 1
    assert other.stderr.startswith("error: another command is running here: sh -c 'echo asleep;")
    assert "is running sh -c" in call("status").stdout
    assert (home / ".launch/log").read_text().count("\nasleep\n") == 1


def test_its_environment(home, monkeypatch):
    (home / ".launch").mkdir()
    (home / ".launch/environment.json").write_text(json.dumps({"TOKEN": "it's\n$x"}))
    monkeypatch.setenv("GIVEN", "before")
    program = "import json, os, sys; print(json.dumps([os.environ['TOKEN'], os.environ['GIVEN'], sys.executable]))"
    call("start", "python", "-c", program)
    call("result")
    assert json.dumps(["it's\n$x", "before", sys.executable]) in (home / ".launch/log").read_text()


def test_sigterm_to_all_is_told(home):
    """The notice of a preemption reaches the command and its supervisor alike."""
    program = "import signal, time; signal.signal(15, lambda *_: exit(75)); print('ready', flush=True); time.sleep(60)"
    call("start", "python", "-c", program)
    eventually(lambda: "\nready" in (home / ".launch/log").read_text())
    os.killpg(json.loads((home / ".launch/running.json").read_text())["pid"], signal.SIGTERM)
    assert "75]" in call("result").stdout


def test_one_that_hangs_is_killed(home, capsys):
    call("start", *SLEEP)
    worker.result(grace=0)
    assert capsys.readouterr().out.endswith(" 137]\n")
    eventually(lambda: call("start", "python", "-c", "pass").returncode == 0)


def test_a_restarted_machine_has_lost_its_run(home):
    call("start", *SLEEP)
    os.killpg(json.loads((home / ".launch/running.json").read_text())["pid"], signal.SIGKILL)
    eventually(lambda: "lost" in call("status").stdout)
    assert call("result").stdout.endswith(" lost]\n")


def test_before_anything_ran(home):
    assert call("status").stdout.endswith(" has run nothing\n")
    assert call("follow").stderr.startswith("error: nothing has been started here")


@pytest.mark.parametrize("arguments", [[], ["begin"], ["start"], ["status", "now"]])
def test_bad_input_is_one_line(home, arguments):
    done = call(*arguments)
    said = " ".join(arguments) or "nothing"
    assert done.returncode == 1 and done.stderr.startswith("error: give start COMMAND, ")
    assert done.stderr.endswith(f", not {said}\n") and done.stderr.count("\n") == 1
