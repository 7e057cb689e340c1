"""The life of a slice and of the run on it: request, set up, run, restart after a preemption.

A command for the workers is one string, which a remote shell reads. The home folder of a worker gets `negot_jax/`: the
code, its environment `.venv`, and the state of the run, `.launch`.
"""

from collections.abc import Sequence
import os
import re
import shlex
import subprocess
import sys
import time

from absl import flags

from launch import worker

PREEMPTED = os.EX_TEMPFAIL  # 75: the exit code of experiments.train when the same command will resume.
_SUSPENDED = ("SUSPENDING", "SUSPENDED")  # The machines are being deleted, with their disks, or are gone.
_PATIENCE = 20  # Attempts to run a command on the workers of a ready slice.

# A connection to a preempted machine ends after 90 seconds rather than hours; gcloud then retries ten times.
_ALIVE = ("-oServerAliveInterval=30", "-oServerAliveCountMax=3", "-oConnectTimeout=15")

# Files deleted from the code disappear there too. uv brings Python 3.11, because images of TPU VMs differ in theirs.
_INSTALL = """set -e; chmod 600 negot_jax.tar.gz; mkdir -p negot_jax/.launch; cd negot_jax
if flock --nonblock .launch/lock true; then
  rm -rf experiments launch negot_jax; tar -xzf ../negot_jax.tar.gz; rm ../negot_jax.tar.gz
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet uv
  test -x .venv/bin/python || python3 -m uv venv --quiet --python=3.11 --seed .venv
  .venv/bin/python -m pip install --quiet --editable '.[tpu]' --constraint constraints.txt
else
  rm ../negot_jax.tar.gz; echo 'A run is going on: code and environment stay as they are.'
fi"""


class LaunchError(Exception):
    """Bad input or a failure; the message names it and the way out."""


class Preempted(Exception):
    """The slice was preempted, or the run on it was asked to leave."""


class Slice:
    """A TPU slice and the run on it, by the flags of `launch.tpu`. Its queued resource and its node share one name."""

    def __init__(self, options: flags.FlagValues, command: Sequence[str]):
        self.options, self.name, self.command = options, options.name, command

    def execute(self, command: Sequence[str], assumed: str | None = None) -> str:
        """Runs a command whose output is for the user, or returned if there is one that a dry run may assume."""
        line = shlex.join(command)
        if self.options.dry_run or assumed is None:
            print(line, file=sys.stdout if self.options.dry_run else sys.stderr, flush=True)
        if self.options.dry_run:
            return assumed or ""
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=assumed is not None, text=True)
        if done.returncode:
            raise LaunchError((done.stderr or f"exit code {done.returncode}, for the reason above, of {line}").strip())
        return done.stdout or ""

    def state(self, assumed: str = "ACTIVE") -> str:
        """gcloud's name of the state; ABSENT if there is no such slice; UNREACHABLE, with the reason printed."""
        try:
            return self.execute(self._describe(), assumed).strip()
        except LaunchError as error:
            if "NOT_FOUND" in str(error):
                return "ABSENT"
            print(error, file=sys.stderr)
            return "UNREACHABLE"

    def require_usable(self, state: str) -> None:
        """Raises Preempted, or LaunchError if a slice in this state was deleted, has failed or has had its time."""
        if state in ("ABSENT", "DELETING", "FAILED"):  # A preempted slice is still listed.
            raise LaunchError(f"{self.name} is {state}. For the reason see {shlex.join(self._describe()[:-1])}")
        if state in _SUSPENDED and self.options.spot:
            raise Preempted(f"{self.name} is {state}")
        if state in _SUSPENDED:
            raise LaunchError(f"{self.name} is {state}: its time is over. `delete`, then `up`, resumes the run")

    def on_workers(self, command: Sequence[str], assumed: str | None = None, tries: int = 1) -> str:
        """As `execute`, on a slice that must be usable; several times if only a lost connection can fail it."""
        for _ in range(tries):
            try:
                return self.execute(command, assumed)
            except LaunchError as error:
                self.require_usable(self.state())
                if tries == 1:
                    raise
                print(error, file=sys.stderr)
                time.sleep(self.options.poll_seconds)
        raise LaunchError(f"{self.name} is ready and cannot be reached. Its run goes on; `up` follows it again.")

    def create(self) -> None:
        """Waits until the slice is ready; requests it if it does not exist or has been preempted."""
        created, seen = False, None
        while (state := self.state("ACTIVE" if created else "ABSENT")) != "ACTIVE":
            if state == "UNREACHABLE" and seen is None:
                raise LaunchError("gcloud could not look at the slice, for the reason above")
            if created or state in _SUSPENDED and not self.options.spot:
                self.require_usable(state)
            if state in ("FAILED", "SUSPENDED"):
                self.delete()
            elif state == "ABSENT":
                self.execute(self._request())
                created = True
            else:
                if state != seen:
                    print(f"{self.name} is {state}", file=sys.stderr)
                time.sleep(self.options.poll_seconds)
            seen = state

    def setup(self) -> None:
        """Copies the code and the variables of --env to every worker, and installs the package there."""
        archive = os.path.expanduser(f"~/.cache/negot_jax/launch/{self.name}/negot_jax.tar.gz")
        try:
            self.execute([sys.executable, "-m", "launch.pack", archive, *self.options.env])
            self.on_workers(self._on("scp", archive, f"{self.name}:"))
            self.on_workers([*self._on("ssh", self.name), f"--command={_INSTALL}"])
        finally:
            self.execute(["rm", "-rf", os.path.dirname(archive)])

    def run(self) -> None:
        """Starts the command on every worker, unless it is running there, and follows it to its end."""
        self.on_workers(self._call("start", *self.command))
        self.on_workers(self._call("follow", worker=0), tries=_PATIENCE)
        said = self.on_workers(self._call("result"), assumed="[worker 0]", tries=_PATIENCE)
        ends = re.findall(r"\[(\S+) (\w+)]", said)
        if left := [host for host, end in ends if end in (str(PREEMPTED), worker.LOST)]:
            raise Preempted(f"the run on {', '.join(left)} was asked to leave")
        if not ends or any(end != "0" for _, end in ends):
            raise LaunchError(f"the run failed, by exit codes {dict(ends)}. `logs --worker=N` shows the output.")

    def up(self) -> None:
        """Creates, sets up and runs; starts over after every preemption. Raises Preempted after the last."""
        for left in reversed(range(self.options.max_restarts + 1)):
            try:
                self.create()
                self.setup()
                return self.run()
            except Preempted as error:
                if not left:
                    raise
                print(f"preempted: {error}. It is restarted; {left - 1} restarts are left.", file=sys.stderr)
                time.sleep(self.options.poll_seconds)  # A preempted machine still exists for a short while.

    def logs(self) -> None:
        self.on_workers(self._call("follow", worker=self.options.worker))

    def status(self) -> None:
        print(f"{self.name} is {(state := self.state())}", file=sys.stderr)
        if state == "ACTIVE":
            self.on_workers(self._call("status"))

    def delete(self) -> None:
        self.execute([*self._gcloud("queued-resources", "delete", self.name), "--force"])  # The node as well.

    def _request(self) -> list[str]:
        options = self.options
        added = {
            "--spot": options.spot,
            "--reserved": options.reserved,
            f"--reservation={options.reservation}": options.reservation,
            "--provisioning-model=reservation-bound": options.reservation,
            "--provisioning-model=flex-start": options.flex_start,
            f"--max-run-duration={options.flex_start}h": options.flex_start,
            f"--service-account={options.service_account}": options.service_account,
        }
        gcloud = self._gcloud("queued-resources", "create", self.name, f"--node-id={self.name}")
        if options.reservation or options.flex_start:
            gcloud.insert(1, "alpha")  # The other tracks know neither.
        gcloud += [f"--accelerator-type={options.accelerator_type}", f"--runtime-version={options.runtime_version}"]
        return gcloud + [flag for flag, given in added.items() if given]

    def _describe(self) -> list[str]:
        return [*self._gcloud("queued-resources", "describe", self.name), "--format=value(state.state)"]

    def _call(self, *arguments: str, worker: int | str = "all") -> list[str]:
        python = '. .launch/environment && PATH="$PWD/.venv/bin:$PATH" PYTHONUNBUFFERED=1 python'
        call = f"cd negot_jax && {python} -m launch.worker {shlex.join(arguments)}"
        return [*self._on("ssh", self.name, worker=worker), f"--command={call}"]

    def _on(self, verb: str, *arguments: str, worker: int | str = "all") -> list[str]:
        alive = [f"--{verb}-flag={option}" for option in _ALIVE]
        return [*self._gcloud("tpu-vm", verb, *arguments), f"--worker={worker}", *alive]

    def _gcloud(self, *arguments: str) -> list[str]:
        place = [f"--project={self.options.project}", f"--zone={self.options.zone}", "--quiet"]
        return ["gcloud", "compute", "tpus", *arguments, *place]
