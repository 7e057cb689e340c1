"""What runs on a worker of a TPU slice: a training command that outlives the connection which started it.

  python -m launch.worker start COMMAND...   starts it, or does nothing where that very command is running
  python -m launch.worker follow             prints its output until it has ended
  python -m launch.worker result             waits for its end and prints how it ended
  python -m launch.worker status             prints whether it is running, or how it ended

State is in `.launch` of the current folder. A file lock says that a command is running: unlike a process's number, it
means nothing else after a reboot. Only Python's own modules are used.
"""

import collections
from collections.abc import Mapping, Sequence
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

LOST = "lost"  # It neither runs nor ended: its machine was restarted or taken away.
_GRACE = 300  # Seconds for a worker to end after worker 0 did: jax misses its peers after 100.
_LINES = 100  # Of a log that has grown before it is followed.

_STATE = pathlib.Path(".launch")
_ENVIRONMENT = _STATE / "environment.json"
_LOCK = _STATE / "lock"
_RUNNING = _STATE / "running.json"
_EXIT = _STATE / "exit"
_LOG = _STATE / "log"


def start(*command: str) -> None:
    """Starts a command in a session of its own. A second call does no harm: gcloud repeats what a lost line cut off."""
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
                pass_fds=[lock.fileno()],  # The lock lives as long as the supervisor, which does not hand it on.
            )
        _RUNNING.write_text(json.dumps({"pid": process.pid, "command": command}))


def supervise(*command: str) -> None:
    """Runs a command and writes down how it ended: its exit code, or 128 and the number of the signal."""
    # A group that is asked to end, ends; the supervisor tells. A handler, since an ignored signal would be inherited.
    signal.signal(signal.SIGTERM, lambda signum, frame: None)
    try:
        code = subprocess.run(command, env=environment(os.environ)).returncode
    except OSError as error:
        print(f"error: {error}", flush=True)
        code = 127
    _write_exit(128 - code if code < 0 else code)


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The command's environment: `python` is this one, output comes at once, and the uploaded variables are set."""
    path = os.pathsep.join([os.path.dirname(sys.executable), given.get("PATH", os.defpath)])
    uploaded = json.loads(_ENVIRONMENT.read_text(encoding="utf-8")) if _ENVIRONMENT.exists() else {}
    return {**given, "PATH": path, "PYTHONUNBUFFERED": "1", **uploaded}


def follow() -> None:
    with _LOG.open("rb") as log:
        sys.stdout.buffer.writelines(collections.deque(log, _LINES))
        running = True
        while running:
            running = _is_running()  # Asked first, so that the last words are read after it.
            sys.stdout.buffer.write(log.read())
            sys.stdout.flush()
            time.sleep(0.2 if running else 0)


def result(grace: float = _GRACE) -> None:
    """Prints `[result HOST CODE]`. A command that has not ended after some time is killed: it waits for a dead peer.

    In brackets, since the lines of many workers come in one stream, and a line's end may come after the next line.
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


def main(arguments: Sequence[str]) -> None:
    {"start": start, "supervise": supervise, "follow": follow, "result": result, "status": status}[arguments[0]](
        *arguments[1:]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
