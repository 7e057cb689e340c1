"""Runs on a worker of a TPU slice: a training command that outlives the connection that started it.

  python -m launch.worker start COMMAND...   starts it; does nothing if that very command is running
  python -m launch.worker follow             prints its output until it ends
  python -m launch.worker result             waits for its end and prints how it ended
  python -m launch.worker status             prints whether it is running, or how it ended

State lives in `.launch` in the current folder. A file lock marks a running command: unlike a process id, it is
void after a reboot. Only the standard library is used.
"""

import collections
from collections.abc import Mapping
import fcntl
import json
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import time

LOST = "lost"  # The command neither runs nor has ended: its machine was restarted or taken away.
_GRACE = 300  # Seconds for a worker to end after worker 0 did; jax notices lost peers after 100.
_LINES = 100  # Last lines of an existing log that `follow` starts with.

_STATE = pathlib.Path(".launch")
_ENVIRONMENT, _LOCK, _RUNNING = _STATE / "environment.json", _STATE / "lock", _STATE / "running.json"
_EXIT, _LOG = _STATE / "exit", _STATE / "log"


def start(*command: str) -> None:
    """Starts a command in its own session. Idempotent, because gcloud repeats it after a lost connection."""
    _STATE.mkdir(exist_ok=True)
    with _LOCK.open("a") as lock:
        if not _acquire(lock):
            if (running := _running()["command"]) == list(command):
                print("It is running already.")
                return
            sys.exit(f"error: another command is running here: {shlex.join(running)}")
        _EXIT.unlink(missing_ok=True)
        with _LOG.open("ab") as log:
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [sys.executable, "-m", "launch.worker", "supervise", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],  # Held as long as the supervisor lives; it does not hand it on.
            )
        _RUNNING.write_text(json.dumps({"pid": process.pid, "command": command}))


def supervise(*command: str) -> None:
    """Runs a command and records how it ended: its exit code, or 128 plus the number of the signal."""
    # SIGTERM to the group ends the command; the supervisor survives to report it. A handler, as SIG_IGN is inherited.
    signal.signal(signal.SIGTERM, lambda signum, frame: None)
    try:
        code = subprocess.run(command, env=environment(os.environ)).returncode
    except OSError as error:
        print(f"error: {error}", flush=True)
        code = 127
    _write_exit(128 - code if code < 0 else code)


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The command's environment: this `python` comes first, output is unbuffered, uploaded variables are set."""
    path = os.pathsep.join([os.path.dirname(sys.executable), given.get("PATH", os.defpath)])
    uploaded = json.loads(_ENVIRONMENT.read_text(encoding="utf-8")) if _ENVIRONMENT.exists() else {}
    return {**given, "PATH": path, "PYTHONUNBUFFERED": "1", **uploaded}


def follow() -> None:
    if not _LOG.exists():
        sys.exit("error: nothing has been started here: `run` starts a command")
    with _LOG.open("rb") as log:
        sys.stdout.buffer.writelines(collections.deque(log, _LINES))
        running = True
        while running:
            running = _is_running()  # Before the read, so that the last lines are read after it has ended.
            sys.stdout.buffer.write(log.read())
            sys.stdout.flush()
            time.sleep(0.2 if running else 0)


def result(grace: float = _GRACE) -> None:
    """Prints `[result HOST CODE]`. A command that does not end in time waits for a dead peer, and is killed.

    The brackets delimit a result, because lines of many workers may run into each other in one stream.
    """
    end = time.monotonic() + grace
    while _is_running() and time.monotonic() < end:
        time.sleep(0.1)
    if _is_running():
        os.killpg(_running()["pid"], signal.SIGKILL)
        _write_exit(128 + signal.SIGKILL)
    print(f"[result {socket.gethostname()} {_EXIT.read_text() if _EXIT.exists() else LOST}]", flush=True)


def status() -> None:
    if _is_running():
        said = f"is running {shlex.join(_running()['command'])}"
    elif _EXIT.exists():
        said = f"ended with exit code {_EXIT.read_text()}"
    else:
        said = f"has {LOST} its run" if _RUNNING.exists() else "has run nothing"
    print(f"{socket.gethostname()} {said}", flush=True)


def _acquire(lock) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_running() -> bool:
    if not _LOCK.exists():
        return False
    with _LOCK.open("a") as lock:
        return not _acquire(lock)


def _running() -> dict:
    return json.loads(_RUNNING.read_text())


def _write_exit(code: int) -> None:
    _EXIT.write_text(str(int(code)))


def main(verb: str = "", *arguments: str) -> None:
    taking_none = {"follow": follow, "result": result, "status": status}
    if verb in ("start", "supervise") and arguments:
        (start if verb == "start" else supervise)(*arguments)
    elif verb in taking_none and not arguments:
        taking_none[verb]()
    else:
        given = shlex.join([verb, *arguments] if verb else [])
        sys.exit(f"error: give start COMMAND, follow, result or status, not {given or 'nothing'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
