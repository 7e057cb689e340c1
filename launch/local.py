"""Runs a command as several processes on this machine, each with its own CPU devices, like hosts of a TPU slice.

  python -m launch.local --processes=2 --devices_per_process=4 -- python -m experiments.train --workdir=DIR ...

The output of the first process is forwarded. When a process fails, the others are ended, the last lines of its output
are printed, and its exit code is passed on: 75 if the run was preempted. SIGTERM is sent on to all of them; Ctrl-C
reaches them from the terminal.
"""

from collections.abc import Mapping, Sequence
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from absl import flags

from experiments import usage

if __name__ == "__main__":  # Flags are global: as a module, this one defines none.
    _PROCESSES = flags.DEFINE_integer("processes", 2, "Number of processes.", lower_bound=1)
    _DEVICES = flags.DEFINE_integer("devices_per_process", 1, "CPU devices of each.", lower_bound=1)

_GRACE = 20  # Seconds for the other processes to end after one was preempted.
_LAST_WORDS = 2  # The same after a failure: those that have not noticed by then would wait forever.
_LINES = 20  # Printed lines of a failed process's output.
_NOISE = b"[Gloo]"  # Prefix of the lines in which the collectives report their connections.


def environment(given: Mapping[str, str], process: int, processes: int, devices: int, port: int) -> dict[str, str]:
    """The environment of one process, by which `distributed.start` finds the others."""
    flags_given = given.get("XLA_FLAGS", "")
    return {
        **given,
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "XLA_FLAGS": f"{flags_given} --xla_force_host_platform_device_count={devices}".strip(),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_COORDINATOR_BIND_ADDRESS": f"127.0.0.1:{port}",  # By default it listens on every interface.
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(process),
    }


def run(command: Sequence[str], processes: int, devices: int) -> int:
    """Runs the command to its end. Returns 0 if all processes did, else the exit code of the first to fail."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        logs = [pathlib.Path(folder, str(process)).open("w+b") for process in range(processes)]
        started = []
        for process, log in enumerate(logs):
            env = environment(os.environ, process, processes, devices, port)
            stdout, stderr = (log, log) if process else (subprocess.PIPE, None)
            started.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr))
        signal.signal(signal.SIGTERM, lambda signum, frame: _send(started, signum))
        signal.signal(signal.SIGINT, lambda signum, frame: None)
        forwarding = threading.Thread(target=_forward, args=(started[0],))
        forwarding.start()
        try:
            failed = _wait(started)
        finally:
            _end(started)
            forwarding.join()
        if failed is None:
            return 0
        code = started[failed].returncode
        if code != os.EX_TEMPFAIL:
            if started[0].returncode <= 0:  # Else the first process has reported a failure of its own.
                logs[failed].seek(0)
                lines = [line for line in logs[failed] if not line.startswith(_NOISE)]
                sys.stderr.write(b"".join(lines[-_LINES:]).decode(errors="replace"))
            ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            print(f"process {failed} of {processes} {ended}", file=sys.stderr)
        return 128 - code if code < 0 else code


def _wait(started: list[subprocess.Popen]) -> int | None:
    """Returns the number of the first process to fail, or None once all have ended well."""
    while True:
        codes = [process.poll() for process in started]
        if failed := [number for number, code in enumerate(codes) if code]:
            return failed[0]
        if None not in codes:
            return None
        time.sleep(0.05)


def _end(started: list[subprocess.Popen]) -> None:
    """Waits for all to end, then kills the rest: a process that waits for a dead peer obeys no other signal."""
    preempted = any(process.poll() == os.EX_TEMPFAIL for process in started)
    if preempted:
        _send(started, signal.SIGTERM)  # It may have reached one process alone, before there was anything to save.
    end = time.monotonic() + (_GRACE if preempted else _LAST_WORDS)
    while any(process.poll() is None for process in started) and time.monotonic() < end:
        time.sleep(0.05)
    _send(started, signal.SIGKILL)
    for process in started:
        process.wait()


def _send(started: list[subprocess.Popen], signum: int) -> None:
    for process in started:
        if process.poll() is None:
            process.send_signal(signum)


def _forward(process: subprocess.Popen) -> None:
    """Prints its output, and reads it to the end even when nobody listens: a full pipe would stop the process."""
    for line in process.stdout:
        if not line.startswith(_NOISE):
            try:
                sys.stdout.buffer.write(line)
                sys.stdout.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str]) -> None:
    """Runs the command that follows `--`."""
    usage.show(argv)
    split = argv.index("--") if "--" in argv else len(argv)
    flags.FLAGS.set_gnu_getopt(False)  # Flags of a command without -- are not ours to complain of.
    try:
        _, *stray = flags.FLAGS(argv[:split])
    except flags.Error as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    if stray:
        sys.exit(f"error: the -- before {stray[0]!r} is missing: ... -- python -m experiments.train ...")
    if not (command := argv[split + 1 :]):
        sys.exit("error: the command is missing: ... -- python -m experiments.train ...")
    if shutil.which(command[0]) is None:
        sys.exit(f"error: there is no command {command[0]!r}")
    sys.exit(run(command, _PROCESSES.value, _DEVICES.value))


if __name__ == "__main__":  # Not by `experiments.cli`: importing JAX takes longer than all that this does.
    main(sys.argv)
