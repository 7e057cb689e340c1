"""The life of a slice and of the run on it: create, set up, run, restart after a preemption.

Every command comes from `launch.commands`, so a dry run prints exactly what would run.
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
from launch.commands import LaunchError, Tpu

Result = TypeVar("Result")

PREEMPTED = os.EX_TEMPFAIL  # 75: the exit code of experiments.train when the same command will resume.
_READY = ("ACTIVE", "READY")
_TAKEN = ("FAILED", "PREEMPTED", "SUSPENDED", "TERMINATED")  # For good, with its disks.
_DELETED = ("ABSENT", "DELETING")  # By hand: a preempted slice is still listed. ABSENT is our word.
_HALTED = ("STOPPED", "HIDDEN", "UNKNOWN")  # By hand, or by a repair that failed.
_SUSPENDED = ("SUSPENDING", "SUSPENDED")
_UNREACHABLE = "UNREACHABLE"  # Our word: gcloud could not look.
_PATIENCE = 20  # Attempts to run a command on the workers of a ready slice.


class CommandFailed(LaunchError):
    """A command ended with a nonzero exit code."""


class Preempted(Exception):
    """The slice was preempted, or the run on it was asked to leave."""


@dataclasses.dataclass(frozen=True)
class Session:
    """A slice, and how its commands run; a dry run prints them instead and assumes that each succeeds."""

    tpu: Tpu
    poll_seconds: float
    dry_run: bool

    def run(self, command: list[str]) -> None:
        """Runs a command whose output is for the user. Raises CommandFailed."""
        print(shlex.join(command), file=sys.stdout if self.dry_run else sys.stderr, flush=True)
        if not self.dry_run and (code := subprocess.run(command, stdin=subprocess.DEVNULL).returncode):
            raise CommandFailed(f"exit code {code}, for the reason above, of {shlex.join(command)}")

    def ask(self, command: list[str], dry_answer: str) -> str:
        """Returns a command's output. Raises CommandFailed with its error output."""
        if self.dry_run:
            print(shlex.join(command))
            return dry_answer
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise CommandFailed(done.stderr.strip())
        return done.stdout

    def state(self, dry_answer: str = _READY[0]) -> str:
        """gcloud's name of the state; ABSENT if there is no such slice; UNREACHABLE, with the reason printed."""
        try:
            return self.ask(commands.describe(self.tpu), dry_answer).strip()
        except CommandFailed as error:
            if "NOT_FOUND" in str(error):
                return "ABSENT"
            print(error, file=sys.stderr)
            return _UNREACHABLE

    def wait(self) -> None:
        time.sleep(self.poll_seconds)

    def require_alive(self, state: str) -> None:
        """Raises LaunchError if a slice in this state was not preempted and will not become ready on its own."""
        if state in _HALTED:
            raise LaunchError(f"{self.tpu.name} is {state}, and will not become ready. Start it again, or delete it.")
        # Only spot slices are preempted; others are suspended when their time is over.
        if state in _SUSPENDED and not self.tpu.spot:
            raise LaunchError(
                f"{self.tpu.name} is {state}: its time is over, or it was suspended by hand. The run goes on from its "
                "last checkpoint: `delete`, then `up` (with --spot if the slice was one)."
            )

    def require_ready(self) -> None:
        """After a failure on a worker, raises Preempted, or LaunchError if the slice was deleted or has ended."""
        if (state := self.state()) in _DELETED:
            raise LaunchError(f"{self.tpu.name} was deleted")
        self.require_alive(state)
        if state not in (*_READY, _UNREACHABLE):
            raise Preempted(f"{self.tpu.name} is {state}")

    def on_workers(self, command: list[str]) -> None:
        """Runs a command that needs the workers. Raises as `require_ready` does, or CommandFailed."""
        try:
            self.run(command)
        except CommandFailed:
            self.require_ready()
            raise

    def persist(self, action: Callable[[], Result]) -> Result:
        """Retries an action that only a lost connection can fail. Raises as `require_ready` does, or LaunchError."""
        for _ in range(_PATIENCE):
            try:
                return action()
            except CommandFailed as error:
                print(error, file=sys.stderr)
                self.require_ready()
                self.wait()
        raise LaunchError(f"{self.tpu.name} is ready and cannot be reached. Its run goes on; `run` follows it again.")


def create(session: Session) -> None:
    """Waits until the slice is ready; requests it if it does not exist or has been preempted.

    Raises:
      Preempted: it was preempted before it was ready.
      LaunchError: it will not become ready.
    """
    tpu, created, seen = session.tpu, False, None
    while (state := session.state(_READY[0] if created else "ABSENT")) not in _READY:
        if state == _UNREACHABLE and seen is None:
            raise LaunchError("gcloud could not look at the slice, for the reason above")
        session.require_alive(state)
        if created and state in ("FAILED", *_DELETED):
            why = shlex.join(commands.describe(tpu)[:-1])
            raise LaunchError(f"{tpu.name} is {state}, and will not become ready. For the reason see {why}")
        if created and state in _TAKEN:
            raise Preempted(f"{tpu.name} is {state}")
        if state in _TAKEN:
            session.run(commands.delete(tpu))
        elif state == "ABSENT":
            session.run(commands.create(tpu))
            created = True
        else:
            if state != seen:
                print(f"{tpu.name} is {state}", file=sys.stderr)
            session.wait()
        seen = state


def setup(session: Session, names: list[str]) -> None:
    """Copies the code and these environment variables to every worker, and installs the package there."""
    folder = pathlib.Path.home() / ".cache" / "negot_jax" / session.tpu.name
    try:
        session.run(commands.pack(str(folder), names))
        session.on_workers(commands.upload(session.tpu, [str(folder / name) for name in commands.UPLOADED]))
        session.on_workers(commands.ssh(session.tpu, commands.install()))
    finally:
        session.run(["rm", "-rf", str(folder)])


def run(session: Session, command: list[str]) -> None:
    """Starts a command on every worker, unless it is running there, and follows it to its end.

    Raises:
      Preempted: the slice was preempted, or a worker was asked to leave.
      LaunchError: the command failed.
    """
    remote = lambda worker, *arguments: commands.ssh(session.tpu, commands.on_worker(*arguments), worker)
    session.on_workers(remote(commands.ALL, "start", *command))
    session.persist(lambda: session.run(remote("0", "follow")))
    ask = remote(commands.ALL, "result")
    ends = re.findall(r"\[result (\S+) (\w+)]", session.persist(lambda: session.ask(ask, "[result worker 0]")))
    if left := [host for host, end in ends if end in (str(PREEMPTED), worker.LOST)]:
        raise Preempted(f"the run on {', '.join(left)} was asked to leave")
    if not ends or any(end != "0" for _, end in ends):
        raise LaunchError(f"the run failed, by exit codes {dict(ends)}. `logs --worker=N` shows the end of its output.")


def up(session: Session, names: list[str], command: list[str], max_restarts: int) -> None:
    """Creates, sets up and runs; starts over after every preemption. Raises Preempted after the last."""
    for restart in range(max_restarts + 1):
        try:
            create(session)
            setup(session, names)
            return run(session, command)
        except Preempted as error:
            if restart == max_restarts:
                raise
            print(f"preempted: {error}. Restart {restart + 1} of {max_restarts}.", file=sys.stderr)
            session.wait()  # A preempted machine still exists for a short while.


def logs(session: Session, worker: int) -> None:
    session.on_workers(commands.ssh(session.tpu, commands.on_worker("follow"), str(worker)))


def status(session: Session) -> None:
    state = session.state()
    print(f"{session.tpu.name} is {state}", file=sys.stderr)
    if state in _READY:
        session.on_workers(commands.ssh(session.tpu, commands.on_worker("status")))


def fetch(session: Session, workdir: str, output: str) -> None:
    session.run(["mkdir", "-p", output])
    session.run(commands.fetch(session.tpu, workdir, output))
