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
    monkeypatch.setenv("PATH", os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    yield tmp_path
    if (tmp_path / ".launch/lock").exists():
        worker.result(grace=0)


def call(*arguments: str) -> subprocess.CompletedProcess:
    """As the launcher does; -S spares a second a dozen times, since nothing that is installed is needed."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "launch.worker", *arguments], capture_output=True, text=True, timeout=50
    )


def leader() -> int:
    """The process group of the last command."""
    return json.loads(pathlib.Path(".launch/running.json").read_text())["pid"]


def eventually(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "program, code", [("pass", "0"), ("exit(75)", "75"), ("import os; os.kill(os.getpid(), 9)", "137")]
)
def test_how_a_command_ended(home, program, code):
    assert call("start", "python", "-c", f"print('it runs')\n{program}").returncode == 0
    assert "it runs\n" in call("follow").stdout
    for verb in ("result", "status"):
        assert call(verb).stdout == f"[{socket.gethostname()} {code}]\n"


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
    assert call("status").stdout.endswith(" running]\n")
    assert (home / ".launch/log").read_text().count("\nasleep\n") == 1


def test_what_it_inherits(home, monkeypatch):
    """The environment; neither input nor the lock, which a daemon that it leaves behind would keep."""
    monkeypatch.setenv("TOKEN", "it's\n$x")
    daemon = "import subprocess; subprocess.Popen(['sleep', '60'])"
    call("start", "python", "-c", f"import os, sys; print([os.environ['TOKEN'], sys.stdin.read()]); {daemon}")
    assert call("result").stdout.endswith(" 0]\n")
    assert repr(["it's\n$x", ""]) in (home / ".launch/log").read_text()
    os.killpg(leader(), signal.SIGKILL)  # The daemon.


def test_sigterm_to_all_is_told(home):
    """The notice of a preemption reaches the command and its supervisor alike."""
    program = "import signal, time; signal.signal(15, lambda *_: exit(75)); print('ready', flush=True); time.sleep(60)"
    call("start", "python", "-c", program)
    eventually(lambda: "\nready" in (home / ".launch/log").read_text())
    os.killpg(leader(), signal.SIGTERM)
    assert "75]" in call("result").stdout


def test_one_that_hangs_is_killed(home, capsys):
    call("start", *SLEEP)
    worker.result(grace=0)
    assert capsys.readouterr().out.endswith(" 137]\n")
    eventually(lambda: call("start", "python", "-c", "pass").returncode == 0)


def test_a_restarted_machine_has_lost_its_run(home):
    call("start", *SLEEP)
    os.killpg(leader(), signal.SIGKILL)
    eventually(lambda: "lost" in call("status").stdout)
    assert call("result").stdout.endswith(" lost]\n")


def test_before_anything_ran(home):
    assert call("status").stdout.endswith(" idle]\n")
    assert call("follow").stderr.startswith("error: nothing has been started here")


@pytest.mark.parametrize("arguments", [[], ["begin"]])
def test_bad_input_is_one_line(home, arguments):
    done = call(*arguments)
    assert done.returncode == 1 and done.stderr == "error: give start COMMAND, follow, status or result\n"
