"""The life of a slice and of the run on it: create, set up, run, start again after a preemption.

Every command is one of `launch.commands`, so that a dry run prints exactly what is run otherwise.
"""

from collections.abc import Callable
import dataclasses
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time
from typing import TypeVar

from launch import commands, worker
from launch.commands import ALL, LaunchError, Tpu

Result = TypeVar("Result")

PREEMPTED = os.EX_TEMPFAIL  # 75: how experiments.train ends when the same command will go on.
_READY = ("ACTIVE", "READY")
_GONE = ("SUSPENDED", "FAILED", "PREEMPTED", "TERMINATED")  # For good, and its disks with it.
_DELETED = ("ABSENT", "DELETING")  # By hand: a slice that was preempted is still listed. ABSENT is our word.
_HALTED = ("STOPPED", "HIDDEN", "UNKNOWN")  # By hand, or by a repair that failed.
_UNREACHABLE = "UNREACHABLE"  # Our word: gcloud could not look.
_PATIENCE = 20  # Times that a command on workers of a ready slice is tried.


class CommandFailed(LaunchError):
    """A command ended with another exit code than 0."""


class Preempted(Exception):
    """The slice was taken away, or the run on it was asked to leave."""


@dataclasses.dataclass(frozen=True)
class Session:
    """A slice, and how commands about it are run; in a dry run they are printed instead, as if all went well."""

    tpu: Tpu
    poll_seconds: float
    dry_run: bool

    def run(self, command: list[str]) -> None:
        """Runs a command whose output is for the user. Raises CommandFailed."""
        print(shlex.join(command), file=sys.stdout if self.dry_run else sys.stderr, flush=True)
        if not self.dry_run and (code := subprocess.run(command, stdin=subprocess.DEVNULL).returncode):
            raise CommandFailed(f"exit code {code}, for the reason above, of {shlex.join(command)}")

    def ask(self, command: list[str], dry_answer: str) -> str:
        """Returns what a command prints. Raises CommandFailed with what it said instead."""
        if self.dry_run:
            print(shlex.join(command))
            return dry_answer
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise CommandFailed(done.stderr.strip())
        return done.stdout

    def state(self, dry_answer: str = _READY[0]) -> str:
        """The state by gcloud's name; ABSENT where there is no such slice; UNREACHABLE, whose reason is printed."""
        try:
            return self.ask(commands.describe(self.tpu), dry_answer).strip()
        except CommandFailed as error:
            if "NOT_FOUND" in str(error):
                return "ABSENT"
            print(error, file=sys.stderr)
            return _UNREACHABLE

    def wait(self) -> None:
        time.sleep(self.poll_seconds)

    def require_ready(self) -> None:
        """To be called when a worker did not do as told.

        Raises:
          Preempted: the slice was taken away.
          LaunchError: it was deleted.
        """
        if (state := self.state()) in _DELETED:
            raise LaunchError(f"{self.tpu.name} was deleted")
        if state not in (*_READY, _UNREACHABLE):
            raise Preempted(f"{self.tpu.name} is {state}")

    def on_workers(self, command: str, worker: str = ALL) -> None:
        """Runs a remote command whose output is for the user. Raises as `require_ready` does, or CommandFailed."""
        try:
            self.run(commands.ssh(self.tpu, command, worker))
        except CommandFailed:
            self.require_ready()
            raise

    def persist(self, action: Callable[[], Result]) -> Result:
        """Repeats what only a cut line can make fail. Raises as `require_ready` does, or LaunchError in the end."""
        for _ in range(_PATIENCE):
            try:
                return action()
            except CommandFailed as error:
                print(error, file=sys.stderr)
                self.require_ready()
                self.wait()
        raise LaunchError(f"{self.tpu.name} is ready and cannot be reached. Its run goes on; `run` follows it again.")


def create(session: Session) -> None:
    """Waits until the slice is ready; asks for it where there is none, or only what is left of one.

    Raises:
      Preempted: it was taken away before it was ready.
      LaunchError: it will not become ready.
    """
    name, created, seen = session.tpu.name, False, None
    while (state := session.state(_READY[0] if created else "ABSENT")) not in _READY:
        if state == _UNREACHABLE and seen is None:
            raise LaunchError("gcloud could not look at the slice, for the reason above")
        if state == "FAILED" and created:
            raise LaunchError(f"{name} is FAILED. For the reason see {shlex.join(commands.describe(session.tpu)[:-1])}")
        if state in _HALTED or (state in _DELETED and created):
            raise LaunchError(f"{name} is {state}, and will not become ready by itself. Start it again, or delete it.")
        if state in _GONE and created:
            raise Preempted(f"{name} is {state}")
        if state in _GONE:
            session.run(commands.delete(session.tpu))
        elif state == "ABSENT":
            session.run(commands.create(session.tpu))
            created = True
        else:
            if state != seen:
                print(f"{name} is {state}", file=sys.stderr)
            session.wait()
        seen = state


def setup(session: Session, names: list[str]) -> None:
    """Copies the code, and the variables of these names, to every worker and installs the package there."""
    folder = pathlib.Path.home() / ".cache" / "negot_jax" / session.tpu.name
    try:
        session.run(commands.pack(str(folder), names))
        try:
            session.run(commands.upload(session.tpu, [str(folder / name) for name in commands.UPLOADED]))
        except CommandFailed:
            session.require_ready()
            raise
        session.on_workers(commands.install())
    finally:
        session.run(["rm", "-rf", str(folder)])


def run(session: Session, command: list[str]) -> None:
    """Starts a command on every worker, where it is not running yet, and follows it to its end.

    Raises:
      Preempted: the slice was taken away, or a worker was asked to leave.
      LaunchError: the command failed.
    """
    session.on_workers(commands.on_worker("start", *command))
    session.persist(lambda: session.run(commands.ssh(session.tpu, commands.on_worker("follow"), "0")))
    ask = commands.ssh(session.tpu, commands.on_worker("result"), ALL)
    ends = re.findall(r"\[result (\S+) (\w+)]", session.persist(lambda: session.ask(ask, "[result worker 0]")))
    if left := [host for host, end in ends if end in (str(PREEMPTED), worker.LOST)]:
        raise Preempted(f"the run on {', '.join(left)} was asked to leave")
    if not ends or any(end != "0" for _, end in ends):
        raise LaunchError(f"the run failed, by exit codes {dict(ends)}. `logs --worker=N` shows the end of its output.")


def up(session: Session, names: list[str], command: list[str], max_restarts: int) -> None:
    """Creates, sets up and runs, from the start after every preemption. Raises Preempted after the last."""
    for restart in range(max_restarts + 1):
        try:
            create(session)
            setup(session, names)
            return run(session, command)
        except Preempted as error:
            if restart == max_restarts:
                raise
            print(f"preempted: {error}. Restart {restart + 1} of {max_restarts}.", file=sys.stderr)
            session.wait()  # A machine that was asked to leave is there for a little longer.


def status(session: Session) -> None:
    state = session.state()
    print(f"{session.tpu.name} is {state}", file=sys.stderr)
    if state in _READY:
        session.on_workers(commands.on_worker("status"))


def fetch(session: Session, workdir: str, output: str) -> None:
    session.run(["mkdir", "-p", output])
    session.run(commands.fetch(session.tpu, workdir, output))
