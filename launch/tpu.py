"""Runs a training command on a Cloud TPU slice, from a machine with gcloud.

  python -m launch.tpu SUBCOMMAND --name=N --project=P --zone=Z [flags] -- COMMAND

  up      requests the slice, waits for it, installs the code and the variables of --env on every worker, starts COMMAND
          there and follows worker 0 to the end; again after every preemption, and exits with 75 after the last
  logs    follows the output of --worker
  status  prints the state of the slice and of every worker
  delete  gives the slice back; until then it costs money
  gke     prints a JobSet that runs COMMAND on TPU7x, in a GKE cluster: see docs/pods.md

One line serves them all, with another subcommand in its place. COMMAND is what one would type in this folder, such as

  python -m launch.tpu up --name=bargain --project=P --zone=us-east5-a --accelerator_type=v5p-128 --spot -- \\
      python -m experiments.train --distributed --config=experiments/configs/paper_30b.py --config.mesh.expert=16 \\
      --config.model.checkpoint=gs://BUCKET/qwen3-30b --workdir=gs://BUCKET/bargain

It is checked here before anything is created. Every worker runs it as it stands; --distributed makes one run of them. A
workdir in a bucket outlives the slice, and the run resumes from it after a preemption. A local workdir is lost with the
slice: it suits one worker, with --max_restarts=0.

The run outlives the connection: the same line follows it again. --dry_run prints the commands, quoted for a shell, that
would run if all went well, and runs none. The values of the --env variables appear in no command and no output.
"""

from collections.abc import Mapping
import importlib.util
import json
import math
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from absl import flags
import jinja2

from experiments import usage
from launch.lifecycle import PREEMPTED, LaunchError, Preempted, Slice

FLAGS = flags.FLAGS
flags.DEFINE_string("name", None, "Name of the slice, and for gke of the JobSet and of the secret with its variables.")
flags.DEFINE_string("project", None, "Google Cloud project.")
flags.DEFINE_string("zone", None, "Zone where the project has quota for the type, such as us-east5-a.")
flags.DEFINE_string("accelerator_type", None, "Type and size, such as v5p-128. For up.")
flags.DEFINE_string("runtime_version", None, "Software of the TPU VM; by default the usual one of its type.")
flags.DEFINE_bool("spot", None, "Spot capacity: cheaper, but preemptible.")
flags.DEFINE_bool("reserved", None, "Capacity that the project has reserved.")
flags.DEFINE_string("reservation", None, "Capacity of the calendar-mode reservation of this name.")
flags.DEFINE_integer("flex_start", None, "Capacity for this many hours, at most 168.")
flags.DEFINE_string("service_account", None, "E-mail of the workers' account; for gke, its name in the cluster.")
flags.DEFINE_multi_string("env", [], "Name of a variable for COMMAND, set on this machine or, for gke, in the secret.")
flags.DEFINE_integer("max_restarts", 20, "How many times a preempted run is restarted.", lower_bound=0)
flags.DEFINE_integer("worker", 0, "Worker that `logs` follows.", lower_bound=0)
flags.DEFINE_string("image", None, "Container image with the code in its working folder. For gke.")
flags.DEFINE_string("topology", None, "Chips of TPU7x along three axes, such as 4x4x4. For gke.")
flags.DEFINE_float("poll_seconds", 30, "Seconds between looks at the state of the slice.", lower_bound=0)
flags.DEFINE_bool("dry_run", False, "Print the commands and run nothing.")
flags.register_validator("flex_start", lambda hours: hours is None or 0 < hours <= 168, "give 1 to 168 hours (7 days)")
flags.mark_flags_as_mutual_exclusive(["spot", "reserved", "reservation", "flex_start"])

_NEEDED = {  # Flags, by subcommand.
    "up": ["name", "project", "zone", "accelerator_type"],
    **dict.fromkeys(["logs", "status", "delete"], ["name", "project", "zone"]),
    "gke": ["name", "image", "topology"],
}

# By generation: its software for JAX, of https://cloud.google.com/tpu/docs/runtimes, and how many cores are a device.
_GENERATIONS = {
    **dict.fromkeys(["v2", "v3"], ("tpu-ubuntu2204-base", 1)),
    "v4": ("tpu-ubuntu2204-base", 2),
    "v5litepod": ("v2-alpha-tpuv5-lite", 1),
    "v5p": ("v2-alpha-tpuv5", 2),
    "v6e": ("v2-alpha-tpuv6e", 1),
}


def main(argv: list[str], command: list[str]) -> None:
    """Runs a command line and its COMMAND; a failure ends it with one line."""
    usage.show(argv)
    try:
        subcommand = " ".join(FLAGS(argv)[1:])
        _check(subcommand, command)
        if subcommand == "gke":
            print(_job_set(command))
        else:
            getattr(Slice(FLAGS, command), subcommand)()
    except (LaunchError, flags.Error) as error:
        sys.exit(f"error: {error}")
    except Preempted as error:
        print(f"preempted: {error}. The same line resumes from the last checkpoint.", file=sys.stderr)
        sys.exit(PREEMPTED)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted: the slice and the run on it go on, and cost money: `status`, `logs`, `delete`")


def _check(subcommand: str, command: list[str]) -> None:
    """Raises LaunchError if a flag is missing, malformed, or does not fit the others or the command."""
    if subcommand not in _NEEDED:
        raise LaunchError(f"give one of {', '.join(_NEEDED)}, not {subcommand or 'none'}; COMMAND after --")
    if missing := [f"--{name}" for name in _NEEDED[subcommand] if not FLAGS[name].value]:
        raise LaunchError(f"{subcommand} needs {', '.join(missing)}; see --help")
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", FLAGS.name):
        raise LaunchError(f"--name={FLAGS.name}: use lower-case letters, digits and hyphens, a letter first")
    for name, *value in (variable.split("=", 1) for variable in FLAGS.env):
        if value:  # Which is not shown.
            raise LaunchError(f"--env={name} comes with its value, which would show in commands: give its name alone")
        if subcommand == "up" and name not in os.environ:
            raise LaunchError(f"--env={name} is not set here: export it")
    if subcommand == "gke":
        for name in ("spot", "reserved", "reservation", "flex_start"):
            if FLAGS[name].value:
                raise LaunchError(f"--{name} is not for gke: the cluster's node pool decides it. Leave it out")
        # Where variables come from a secret, a chip is two devices, and the image holds files.
        _check_training(command, devices=2 * _chips(), local=False)
        return
    if subcommand == "up":
        devices = _resolve(FLAGS.accelerator_type)
        one_worker = int(FLAGS.accelerator_type.rpartition("-")[2]) <= 8
        _require_packed(_check_training(command, devices, local=one_worker and not FLAGS.max_restarts))
    if not FLAGS.dry_run and shutil.which("gcloud") is None:
        raise LaunchError("gcloud is not on PATH: install the Google Cloud CLI, then `gcloud auth login`; or --dry_run")


def _resolve(accelerator_type: str) -> int:
    """Sets the software that a slice boots. Returns how many devices JAX will have on it; 0 if that is not known."""
    generation, _, size = accelerator_type.rpartition("-")
    if re.match("(tpu|v)7", generation):
        raise LaunchError(f"--accelerator_type={accelerator_type} is available on GKE only: see `gke` in docs/pods.md")
    if not re.fullmatch(r"[1-9]\d{0,4}", size, re.ASCII) or not (generation in _GENERATIONS or FLAGS.runtime_version):
        raise LaunchError(
            f"--accelerator_type={accelerator_type} is none of {', '.join(f'{name}-N' for name in _GENERATIONS)}, "
            "such as v5p-128. A newer type needs --runtime_version."
        )
    software, cores = _GENERATIONS.get(generation, (None, 0))
    FLAGS.runtime_version = FLAGS.runtime_version or software
    return int(size) // cores if cores else 0


def _check_training(command: list[str], devices: int, local: bool) -> dict[str, str]:
    """The paths that a command reads, by flag. Raises LaunchError if it names no module, workers would train apart, a
    local run would be lost, or training refuses its input.
    """
    if not command:
        raise LaunchError("give the training command, after --")
    line, module = " ".join(command), _module(command)
    if module and not _exists(module):
        raise LaunchError(f"there is no module {module}: training is `python -m experiments.train`")
    if re.search(r" --?flagfile\b", line):
        raise LaunchError("--flagfile in the training command would be read on the workers: write out what it holds")
    if "experiments.train" in command and not re.search(r"(?i) --?distributed(=(true|t|yes|y|1))?( |$)", line):
        raise LaunchError("every worker would run this training command for itself: add --distributed to it")
    for workdir in re.findall(r" --?workdir[= ](\S*)", line)[-1:]:  # The last counts.
        if not workdir.startswith("gs://") and not local:
            raise LaunchError(
                f"--workdir={workdir} is another folder on each worker, and is lost with it. Use a bucket, "
                "--workdir=gs://BUCKET/RUN; or one worker, such as v5p-8, and --max_restarts=0"
            )
    return inputs(command, devices) if module == "experiments.train" else {}


def _require_packed(paths: Mapping[str, str]) -> None:
    """Raises LaunchError for an input that no worker would have: in no bucket, and not in what is packed for them."""
    for flag, path in paths.items():
        bucket = path.startswith("gs://") and "checkpoint" in flag  # Products are read from a disk.
        if not bucket and pathlib.PurePath(path).parts[:1] != ("experiments",):
            raise LaunchError(
                f"--{flag}={path} would not be on the workers, which get this folder's code alone. Put a checkpoint "
                "into a bucket, and other files into experiments/, named from here: experiments/FILE"
            )


def _module(command: list[str]) -> str | None:
    """What `python -m MODULE` runs."""
    return command[command.index("-m") + 1] if "-m" in command[:-1] else None


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # Of a package that does not exist, or of a name that none can have.
        return False


def inputs(command: list[str], devices: int) -> dict[str, str]:
    """The paths that experiments.train reads, by flag. devices: that it runs on; 0 if that is not known.

    Raises LaunchError if it refuses its flags or its configuration.
    """
    check = [sys.executable, *command[command.index("-m") :], f"--check={devices}"]
    done = subprocess.run(check, env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    if done.returncode:
        *_, last = ["", *done.stderr.strip().splitlines()]
        raise LaunchError(last.removeprefix("error: ") or f"{shlex.join(check)} ended with {done.returncode}")
    named = re.findall(r" --?config[= ](\S+)", " ".join(command))[-1:]
    read = dict(re.findall(r"^(config\.[\w.]+)=(.*)$", done.stdout, re.MULTILINE))  # The configuration may print, too.
    return {"config": named[0].split(":")[0], **read}


def _chips() -> int:
    """Chips of --topology. Raises LaunchError if they are not those of whole hosts."""
    sides = re.fullmatch(r"(\d{1,3})x(\d{1,3})x(\d{1,3})", FLAGS.topology, re.ASCII)
    chips = math.prod(map(int, sides.groups())) if sides else 0
    if not chips or chips % 4:
        raise LaunchError(f"--topology={FLAGS.topology}: give three axes that fill hosts of 4 chips, such as 4x4x4")
    return chips


def _job_set(command: list[str]) -> str:
    """The manifest of a command that every host of a slice of TPU7x runs."""
    template = pathlib.Path(__file__).with_name("jobset.yaml").read_text()
    quoted = [json.dumps(argument, ensure_ascii=False) for argument in command]
    values = FLAGS.flag_values_dict() | {"command": quoted, "hosts": _chips() // 4}
    return jinja2.Template(template, undefined=jinja2.StrictUndefined).render(values)


if __name__ == "__main__":
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    main(sys.argv[:split], sys.argv[split + 1 :])
