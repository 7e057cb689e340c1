"""Runs a training command on a Cloud TPU slice, from a machine with gcloud.

  python -m launch.tpu SUBCOMMAND --name=N --project=P --zone=Z [flags] -- COMMAND

  create  asks for the slice and waits until it is ready
  setup   copies the code and the variables of --env to every worker, and installs the package there
  run     starts COMMAND on every worker and follows worker 0 to the end; exit code 75 if it was preempted
  up      create, setup and run; and again whenever it was preempted
  logs    follows the output of --worker
  status  prints the state of the slice and of every worker
  fetch   copies the --workdir of COMMAND, from its bucket or from worker 0, into --output
  delete  gives the slice back: until then it costs

One line serves all of them, with another subcommand in its place: each reads the flags that it needs. COMMAND is what
one would type in this folder, such as

  python -m launch.tpu up --name=bargain --project=P --zone=us-east5-a --accelerator_type=v5p-128 --spot -- \\
      python -m experiments.train --distributed --config=experiments/configs/paper_30b.py --config.mesh.expert=16 \\
      --config.model.checkpoint=gs://BUCKET/qwen3-30b --workdir=gs://BUCKET/bargain

Every worker runs it as it stands, and training makes one run of them by --distributed. A folder of a bucket outlives
the slice, and the run goes on from it after a preemption. A local one goes with the slice: it is for one worker, and
for --max_restarts=0.

The run outlives the connection: the same line follows it again. --dry_run prints what is run if all goes well, quoted
for a shell, and runs nothing. The values of the variables of --env are in no command and in no output.
"""

import os
import re
import shutil
import sys

from absl import app, flags

from launch import commands, lifecycle
from launch.commands import LaunchError, Tpu
from launch.lifecycle import Preempted, Session

_NAME = flags.DEFINE_string("name", None, "Name of the slice.")
_PROJECT = flags.DEFINE_string("project", None, "Google Cloud project.")
_ZONE = flags.DEFINE_string("zone", None, "Zone where the project has quota for the type, such as us-east5-a.")
_TYPE = flags.DEFINE_string("accelerator_type", None, "Type and size, such as v5p-128. For create and up.")
_RUNTIME = flags.DEFINE_string("runtime_version", None, "Software of the TPU VM; by default the usual one of its type.")
_QUEUED = flags.DEFINE_bool("queued", True, "A queued resource, which waits for capacity; else a TPU VM, at once.")
_SPOT = flags.DEFINE_bool("spot", False, "Capacity that costs less and can be taken away.")
_RESERVED = flags.DEFINE_bool("reserved", False, "Capacity that the project has reserved.")
_ACCOUNT = flags.DEFINE_string("service_account", None, "E-mail of the workers' account; else the project's default.")
_ENV = flags.DEFINE_multi_string("env", [], "Name of an environment variable of this machine that COMMAND needs.")
_RESTARTS = flags.DEFINE_integer("max_restarts", 20, "Preemptions after which `up` goes on.", lower_bound=0)
_WORKER = flags.DEFINE_integer("worker", 0, "Worker that `logs` follows.", lower_bound=0)
_OUTPUT = flags.DEFINE_string("output", None, "Folder that `fetch` copies the run's folder into.")
_POLL = flags.DEFINE_float("poll_seconds", 30, "Seconds between two looks at the slice.", lower_bound=0)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands and run nothing.")

_SUBCOMMANDS = ("create", "setup", "run", "up", "logs", "status", "fetch", "delete")


def main(argv: list[str], command: list[str]) -> None:
    subcommand = _checked(argv[1:], command)
    tpu = Tpu(
        name=_NAME.value,
        project=_PROJECT.value,
        zone=_ZONE.value,
        queued=_QUEUED.value,
        accelerator_type=_TYPE.value,
        runtime_version=_RUNTIME.value or (_TYPE.value and commands.runtime_version(_TYPE.value)),
        spot=_SPOT.value,
        reserved=_RESERVED.value,
        service_account=_ACCOUNT.value,
    )
    session = Session(tpu, _POLL.value, _DRY_RUN.value)
    match subcommand:
        case "create":
            lifecycle.create(session)
        case "setup":
            lifecycle.setup(session, _ENV.value)
        case "run":
            lifecycle.run(session, command)
        case "up":
            lifecycle.up(session, _ENV.value, command, _RESTARTS.value)
        case "logs":
            session.on_workers(commands.on_worker("follow"), str(_WORKER.value))
        case "status":
            lifecycle.status(session)
        case "fetch":
            lifecycle.fetch(session, commands.workdir(command), _OUTPUT.value)
        case "delete":
            session.run(commands.delete(tpu))


def _checked(arguments: list[str], command: list[str]) -> str:
    """Returns the subcommand.

    Raises:
      LaunchError: it or a flag that it needs is missing, unknown, or does not fit another one.
    """
    subcommand = arguments[0] if len(arguments) == 1 else None
    if subcommand not in _SUBCOMMANDS:
        raise LaunchError(
            f"give one of {', '.join(_SUBCOMMANDS)}, not {' '.join(arguments) or 'none'}; COMMAND after --"
        )
    needed = [_NAME, _PROJECT, _ZONE]
    needed += [_TYPE] * (subcommand in ("create", "up")) + [_OUTPUT] * (subcommand == "fetch")
    if missing := [f"--{flag.name}" for flag in needed if not flag.value]:
        raise LaunchError(f"{subcommand} needs {', '.join(missing)}; --help says what they are")
    if subcommand in ("run", "up", "fetch") and not command:
        raise LaunchError(f"{subcommand} needs the training command, after --")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", _NAME.value):
        raise LaunchError(f"--name={_NAME.value} is to be lower-case letters, digits and hyphens, a letter first")
    if _SPOT.value and _RESERVED.value:
        raise LaunchError("--spot and --reserved exclude each other: give one of them")
    for name in _ENV.value if subcommand in ("setup", "up") else ():
        if name not in os.environ:  # The value is not shown, should someone have given NAME=VALUE.
            raise LaunchError(
                f"--env={name.split('=')[0]}: no such variable is set here; export it, and give its name alone"
            )
    if subcommand in ("run", "up") and commands.trains_alone(command):
        raise LaunchError(
            "every worker runs this training command, each for itself: add --distributed to it, which makes one run of "
            "them"
        )
    _check_workdir(subcommand, commands.workdir(command))
    if not _DRY_RUN.value and shutil.which("gcloud") is None:
        raise LaunchError("gcloud is not on PATH: install the Google Cloud CLI, then `gcloud auth login`; or --dry_run")
    return subcommand


def _check_workdir(subcommand: str, folder: str | None) -> None:
    if subcommand == "fetch" and not folder:
        raise LaunchError("fetch needs a training command with --workdir, which says what to fetch")
    if subcommand not in ("run", "up") or not folder or folder.startswith("gs://"):
        return
    if _TYPE.value and commands.has_many_workers(_TYPE.value):
        raise LaunchError(
            f"--workdir={folder} is another folder on each worker of {_TYPE.value}, which write one run together. Give "
            "a folder of a bucket, gs://BUCKET/RUN"
        )
    if subcommand == "up" and _RESTARTS.value:
        raise LaunchError(
            f"--workdir={folder} goes with the slice, so that a restart would begin anew. Give a folder of a bucket, "
            "gs://BUCKET/RUN, or --max_restarts=0"
        )


def run(argv: list[str], command: list[str]) -> None:
    """Runs a parsed command line and its COMMAND, and says in one line what is wrong."""
    try:
        main(argv, command)
    except LaunchError as error:
        sys.exit(f"error: {error}")
    except Preempted as error:
        print(f"preempted: {error}. The same line goes on from what is saved.", file=sys.stderr)
        sys.exit(lifecycle.PREEMPTED)
    except KeyboardInterrupt:
        sys.exit(
            "\ninterrupted: what was asked for and what was started goes on, and costs: `status`, `logs`, `delete`"
        )


def parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    app.run(lambda argv: run(argv, sys.argv[split + 1 :]), argv=sys.argv[:split], flags_parser=parse)
