"""Builds the commands that a run on Cloud TPU needs, as argument lists. Nothing runs here.

Flags are those of gcloud's GA commands. A command for the workers is one string, which a remote shell reads. The home
folder of a worker gets `negot_jax/`: the code, its environment `.venv`, and the state of the run, `.launch`.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import re
import shlex
import sys

ALL = "all"  # For --worker.
UPLOADED = ARCHIVE, ENVIRONMENT = "negot_jax.tar.gz", "negot_jax.env"  # Into the home folder of a worker.
FOLDER = "negot_jax"

# https://cloud.google.com/tpu/docs/runtimes, the table for JAX.
RUNTIME_VERSIONS = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}

# A connection to a preempted machine ends after 90 seconds rather than hours; gcloud then retries ten times.
_ALIVE = ("-oServerAliveInterval=30", "-oServerAliveCountMax=3", "-oConnectTimeout=15")
_SSH, _SCP = ([f"--{name}-flag={option}" for option in _ALIVE] for name in ("ssh", "scp"))


class LaunchError(Exception):
    """Bad input or a failure; the message names it and the way out."""


@dataclasses.dataclass(frozen=True)
class Tpu:
    """A slice and how it is requested, by the flags of `launch.tpu`. The queued resource and its node share one name.

    queued: whether to request a queued resource, which waits for capacity, or a TPU VM, which fails without capacity.
    accelerator_type, runtime_version: gcloud's names; required to create the slice.
    """

    name: str
    project: str
    zone: str
    queued: bool = True
    accelerator_type: str | None = None
    runtime_version: str | None = None
    spot: bool = False
    reserved: bool = False
    service_account: str | None = None

    @property
    def kind(self) -> str:
        return "queued-resources" if self.queued else "tpu-vm"


def runtime_version(accelerator_type: str) -> str:
    """The software version that a slice boots, such as v2-alpha-tpuv5 for v5p-128.

    Raises:
      LaunchError: the accelerator type or its runtime version is unknown here.
    """
    generation = re.fullmatch(r"(\w+)-[1-9]\d*", accelerator_type)
    if generation is None or generation[1] not in RUNTIME_VERSIONS:
        raise LaunchError(
            f"--accelerator_type={accelerator_type} is none of {', '.join(f'{name}-N' for name in RUNTIME_VERSIONS)}, "
            "such as v5p-128. A newer type needs --runtime_version."
        )
    return RUNTIME_VERSIONS[generation[1]]


def has_many_workers(accelerator_type: str) -> bool:
    """Whether a slice has several workers: more than 8 cores (up to v5p) or 8 chips (v5litepod and v6e)."""
    size = accelerator_type.rpartition("-")[2]
    return size.isdigit() and int(size) > 8


def create(tpu: Tpu) -> list[str]:
    version = "--runtime-version" if tpu.queued else "--version"
    return [
        *_gcloud(tpu, tpu.kind, "create", tpu.name),
        *([f"--node-id={tpu.name}"] if tpu.queued else []),
        f"--accelerator-type={tpu.accelerator_type}",
        f"{version}={tpu.runtime_version}",
        *(["--spot"] if tpu.spot else []),
        *(["--reserved"] if tpu.reserved else []),
        *([f"--service-account={tpu.service_account}"] if tpu.service_account else []),
    ]


def describe(tpu: Tpu) -> list[str]:
    """Prints the state alone, such as WAITING_FOR_RESOURCES."""
    state = "state.state" if tpu.queued else "state"
    return [*_gcloud(tpu, tpu.kind, "describe", tpu.name), f"--format=value({state})"]


def delete(tpu: Tpu) -> list[str]:
    # --force deletes the node as well.
    return [*_gcloud(tpu, tpu.kind, "delete", tpu.name), *(["--force"] if tpu.queued else [])]


def ssh(tpu: Tpu, command: str, worker: str = ALL) -> list[str]:
    return [*_gcloud(tpu, "tpu-vm", "ssh", tpu.name), f"--worker={worker}", *_SSH, f"--command={command}"]


def upload(tpu: Tpu, files: Sequence[str]) -> list[str]:
    """Copies files into the home folder of every worker, with their modes."""
    return [*_gcloud(tpu, "tpu-vm", "scp", *files, f"{tpu.name}:"), f"--worker={ALL}", *_SCP]


def fetch(tpu: Tpu, workdir: str, output: str) -> list[str]:
    """Copies a run's folder from its bucket or from worker 0 into an existing folder.

    Raises:
      LaunchError: a path on the worker has characters that some versions of scp pass to a shell there.
    """
    if workdir.startswith("gs://"):
        return ["gcloud", "storage", "cp", workdir, output, "--recursive", f"--project={tpu.project}", "--quiet"]
    if not re.fullmatch(r"[\w./=+,@%-]+", workdir):
        raise LaunchError(f"--workdir={workdir} cannot be fetched by scp: use only letters, digits and ./=+,@%_-")
    path = workdir if workdir.startswith("/") else f"{FOLDER}/{workdir}"
    return [*_gcloud(tpu, "tpu-vm", "scp", f"{tpu.name}:{path}", output), "--recurse", "--worker=0", *_SCP]


def pack(folder: str, names: Sequence[str]) -> list[str]:
    """Writes the archive and the environment file into a local folder: see `launch.pack`."""
    return [sys.executable, "-m", "launch.pack", folder, *names]


def install() -> str:
    """Unpacks and installs the uploaded files on a worker, unless a run is in progress there.

    uv brings Python 3.11, because images of TPU VMs differ in their Python.
    """
    python = ".venv/bin/python"
    steps = [
        f"mv {ENVIRONMENT} {FOLDER}/.launch/environment.json",
        f"cd {FOLDER}",
        "rm -rf experiments launch negot_jax",  # Files deleted from the code must disappear there too.
        f"tar -xzf ../{ARCHIVE}",
        "PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet uv",
        f"{{ test -x {python} || python3 -m uv venv --quiet --python=3.11 --seed .venv; }}",
        f"{python} -m pip install --quiet --editable '.[tpu]' --constraint constraints.txt",
    ]
    return (
        f"chmod 600 {ENVIRONMENT} && mkdir -p {FOLDER}/.launch && "
        f"if flock --nonblock {FOLDER}/.launch/lock true; then {' && '.join(steps)}; "
        f"else rm {ENVIRONMENT}; echo 'A run is going on: code and environment stay as they are.'; fi"
    )


def on_worker(*arguments: str) -> str:
    """The remote command that calls `launch.worker`."""
    return f"cd {FOLDER} && {shlex.join(['.venv/bin/python', '-m', 'launch.worker', *arguments])}"


def trains_alone(command: Sequence[str]) -> bool:
    """Whether this is a training command without --distributed: every worker would train on its own."""
    together = any(re.fullmatch("--?distributed(=.*)?", argument) for argument in command)
    return "experiments.train" in command and not together


def workdir(command: Sequence[str]) -> str | None:
    """The value of --workdir in a training command: the last one, as absl takes it."""
    found = None
    for argument, following in itertools.zip_longest(command, command[1:]):
        if given := re.fullmatch(r"--?workdir(?:=(.*))?", argument, re.DOTALL):
            found = following if given[1] is None else given[1]
    return found


def _gcloud(tpu: Tpu, kind: str, verb: str, *arguments: str) -> list[str]:
    place = [f"--project={tpu.project}", f"--zone={tpu.zone}", "--quiet"]
    return ["gcloud", "compute", "tpus", kind, verb, *arguments, *place]
