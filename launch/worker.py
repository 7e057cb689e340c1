"""Runs on a worker of a TPU slice: a training command that outlives the connection that started it.

  python -m launch.worker start COMMAND...   starts it; does nothing if that very command is running
  python -m launch.worker follow             prints its output until it ends
  python -m launch.worker status             prints [HOST STATE]: running, its exit code, lost or idle
  python -m launch.worker result             waits for its end, then prints its status

State lives in `.launch` in the current folder. A file lock marks a running command: unlike a process id, it is
void after a reboot. Only the standard library is used.
"""

import collections
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
_LOCK, _RUNNING, _EXIT, _LOG = (_STATE / name for name in ("lock", "running.json", "exit", "log"))

# The supervisor. Its input is the lock, which the command does not get; it survives a SIGTERM that ends the command.
_SUPERVISE = f'trap : TERM; printf "$ %s\\n" "$*"; "$@" </dev/null; echo $? >{_EXIT}'


def start(*command: str) -> None:
    """Starts a command in its own session. Idempotent, because gcloud repeats it after a lost connection."""
    with _LOCK.open("a") as lock, _LOG.open("ab") as log:
        if not _take(lock):
            if (running := json.loads(_RUNNING.read_text())["command"]) != list(command):
                sys.exit(f"error: another command is running here: {shlex.join(running)}")
            print("It is running already.")
            return
        _EXIT.write_text(LOST)  # Until it ends.
        supervised = ["sh", "-c", _SUPERVISE, "sh", *command]
        process = subprocess.Popen(supervised, stdin=lock, stdout=log, stderr=log, start_new_session=True)
        _RUNNING.write_text(json.dumps({"pid": process.pid, "command": command}))


def follow() -> None:
    if not _LOG.exists():
        sys.exit("error: nothing has been started here: `up` starts a command")
    with _LOG.open("rb") as log:
        sys.stdout.buffer.writelines(collections.deque(log, _LINES))
        running = True
        while running:
            running = _is_running()  # Before the read, so that the last lines are read after it has ended.
            sys.stdout.buffer.write(log.read())
            sys.stdout.flush()
            time.sleep(0.2 if running else 0)


def status() -> None:
    """The brackets delimit a status, because lines of many workers may run into each other in one stream."""
    running, ended = _is_running(), _EXIT.read_text().strip() if _EXIT.exists() else "idle"  # In this order.
    print(f"[{socket.gethostname()} {'running' if running else ended}]", flush=True)


def result(grace: float = _GRACE) -> None:
    """A command that does not end in time waits for a dead peer, and is killed."""
    end = time.monotonic() + grace
    while _is_running():
        if time.monotonic() > end:
            os.killpg(json.loads(_RUNNING.read_text())["pid"], signal.SIGKILL)
            _EXIT.write_text(str(128 + signal.SIGKILL))
        time.sleep(0.1)
    status()


def _is_running() -> bool:
    with _LOCK.open("a") as lock:
        return not _take(lock)


def _take(lock) -> bool:
    """Takes the lock until the file is closed everywhere; False if a running command has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    verbs = {"start": start, "follow": follow, "status": status, "result": result}
    if not verbs.keys() & sys.argv[1:2]:
        sys.exit("error: give start COMMAND, follow, status or result")
    _STATE.mkdir(exist_ok=True)
    verbs[sys.argv[1]](*sys.argv[2:])
