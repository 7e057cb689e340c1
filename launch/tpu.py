"""Runs a training command on a Cloud TPU slice, from a machine with gcloud.

  python -m launch.tpu SUBCOMMAND --name=N --project=P --zone=Z [flags] -- COMMAND

  create  requests the slice and waits until it is ready
  setup   copies the code and the variables of --env to every worker, and installs the package there
  run     starts COMMAND on every worker and follows worker 0 to the end; exit code 75 if it was preempted
  up      create, setup and run, and again after every preemption
  logs    follows the output of --worker
  status  prints the state of the slice and of every worker
  fetch   copies the --workdir of COMMAND, from its bucket or from worker 0, into --output
  delete  gives the slice back; until then it costs money

One line serves all of them, with another subcommand in its place: each reads the flags that it needs. COMMAND is what
one would type in this folder, such as

  python -m launch.tpu up --name=bargain --project=P --zone=us-east5-a --accelerator_type=v5p-128 --spot -- \\
      python -m experiments.train --distributed --config=experiments/configs/paper_30b.py --config.mesh.expert=16 \\
      --config.model.checkpoint=gs://BUCKET/qwen3-30b --workdir=gs://BUCKET/bargain

Every worker runs it as it stands; --distributed makes one run of them. A workdir in a bucket outlives the slice, and
the run resumes from it after a preemption. A local workdir is lost with the slice: it suits one worker, with
--max_restarts=0.

The run outlives the connection: the same line follows it again. --dry_run prints the commands, quoted for a shell, that
would run if all went well, and runs none. The values of the --env variables appear in no command and no output.
"""

import dataclasses
import os
import re
import shutil
import sys

from absl import app, flags

from experiments import usage
from launch import commands, lifecycle
from launch.commands import LaunchError, Tpu
from launch.lifecycle import Preempted, Session

_NAME = flags.DEFINE_string("name", None, "Name of the slice.")
_PROJECT = flags.DEFINE_string("project", None, "Google Cloud project.")
_ZONE = flags.DEFINE_string("zone", None, "Zone where the project has quota for the type, such as us-east5-a.")
_TYPE = flags.DEFINE_string("accelerator_type", None, "Type and size, such as v5p-128. For create and up.")
flags.DEFINE_string("runtime_version", None, "Software of the TPU VM; by default the usual one of its type.")
flags.DEFINE_bool("queued", True, "Queue for capacity; otherwise create a TPU VM at once, or fail.")
_SPOT = flags.DEFINE_bool("spot", False, "Capacity that costs less and can be taken away.")
_RESERVED = flags.DEFINE_bool("reserved", False, "Capacity that the project has reserved.")
flags.DEFINE_string("service_account", None, "E-mail of the workers' account; else the project's default.")
_ENV = flags.DEFINE_multi_string("env", [], "Name of an environment variable of this machine that COMMAND needs.")
_RESTARTS = flags.DEFINE_integer("max_restarts", 20, "Preemptions that `up` restarts after.", lower_bound=0)
_WORKER = flags.DEFINE_integer("worker", 0, "Worker that `logs` follows.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", None, "Folder that `fetch` copies the run's folder into.")
_POLL = flags.DEFINE_float("poll_seconds", 30, "Seconds between two looks at the slice.", lower_bound=0)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands and run nothing.")

_SUBCOMMANDS = {
    "create": lambda session, command: lifecycle.create(session),
    "setup": lambda session, command: lifecycle.setup(session, _ENV.value),
    "run": lifecycle.run,
    "up": lambda session, command: lifecycle.up(session, _ENV.value, command, _RESTARTS.value),
    "logs": lambda session, command: lifecycle.logs(session, _WORKER.value),
    "status": lambda session, command: lifecycle.status(session),
    "fetch": lambda session, command: lifecycle.fetch(session, commands.workdir(command), _OUTPUT.value),
    "delete": lambda session, command: session.run(commands.delete(session.tpu)),
}


def main(argv: list[str], command: list[str]) -> None:
    subcommand = " ".join(argv[1:])
    _check(subcommand, command)
    tpu = Tpu(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(Tpu)})
    if tpu.accelerator_type and not tpu.runtime_version:
        tpu = dataclasses.replace(tpu, runtime_version=commands.runtime_version(tpu.accelerator_type))
    _SUBCOMMANDS[subcommand](Session(tpu, _POLL.value, _DRY_RUN.value), command)


def _check(subcommand: str, command: list[str]) -> None:
    """Raises LaunchError if a flag is missing, malformed, or does not fit the others or the command."""
    if subcommand not in _SUBCOMMANDS:
        raise LaunchError(f"give one of {', '.join(_SUBCOMMANDS)}, not {subcommand or 'none'}; COMMAND after --")
    needed = [_NAME, _PROJECT, _ZONE]
    needed += [_TYPE] * (subcommand in ("create", "up")) + [_OUTPUT] * (subcommand == "fetch")
    if missing := [f"--{flag.name}" for flag in needed if not flag.value]:
        raise LaunchError(f"{subcommand} needs {', '.join(missing)}; see --help")
    if subcommand in ("run", "up", "fetch") and not command:
        raise LaunchError(f"{subcommand} needs the training command, after --")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", _NAME.value):
        raise LaunchError(f"--name={_NAME.value}: use lower-case letters, digits and hyphens, a letter first")
    if _SPOT.value and _RESERVED.value:
        raise LaunchError("--spot and --reserved exclude each other: give one of them")
    for name in _ENV.value if subcommand in ("setup", "up") else ():
        if name not in os.environ:  # Not shown whole, as it may be a NAME=VALUE.
            raise LaunchError(f"--env={name.split('=')[0]} is not set here: export it, and give its name alone")
    if subcommand in ("run", "up"):
        _check_training(subcommand, command)
    if subcommand == "fetch" and not commands.workdir(command):
        raise LaunchError("fetch needs a training command with --workdir, which says what to fetch")
    if not _DRY_RUN.value and shutil.which("gcloud") is None:
        raise LaunchError("gcloud is not on PATH: install the Google Cloud CLI, then `gcloud auth login`; or --dry_run")


def _check_training(subcommand: str, command: list[str]) -> None:
    """Raises LaunchError if the workers would train apart, or the run would be lost with the slice."""
    if commands.trains_alone(command):
        raise LaunchError("every worker would run this training command for itself: add --distributed to it")
    folder = commands.workdir(command)
    if not folder or folder.startswith("gs://"):
        return
    if _TYPE.value and commands.has_many_workers(_TYPE.value):
        raise LaunchError(
            f"--workdir={folder} is another folder on each worker of {_TYPE.value}, and they write one run together. "
            "Use a bucket: --workdir=gs://BUCKET/RUN"
        )
    if subcommand == "up" and _RESTARTS.value:
        raise LaunchError(
            f"--workdir={folder} is lost with the slice, so a restart would begin anew. Use a bucket, "
            "--workdir=gs://BUCKET/RUN, or --max_restarts=0"
        )


def run(argv: list[str], command: list[str]) -> None:
    """Runs a parsed command line and its COMMAND; a failure ends it with one line."""
    try:
        main(argv, command)
    except LaunchError as error:
        sys.exit(f"error: {error}")
    except Preempted as error:
        print(f"preempted: {error}. The same line resumes from the last checkpoint.", file=sys.stderr)
        sys.exit(lifecycle.PREEMPTED)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted: the slice and the run on it go on, and cost money: `status`, `logs`, `delete`")


def parse(argv: list[str]) -> list[str]:
    usage.show(argv)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    app.run(lambda argv: run(argv, sys.argv[split + 1 :]), argv=sys.argv[:split], flags_parser=parse)
