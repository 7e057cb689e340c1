"""The commands that a run on Cloud TPU needs, as argument lists. Nothing is run here.

Flags are those of gcloud's GA commands. What runs on the workers is one string, since a remote shell reads it: the home
folder there gets `negot_jax/`, with the code, its environment `.venv` and the state of the run, `.launch`.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import re
import shlex
import sys

ALL = "all"  # Of --worker.
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

# A connection to a machine that was taken away ends after a minute and a half, not after hours; gcloud then tries ten
# times to connect anew.
_SSH_OPTIONS = ("-oServerAliveInterval=30", "-oServerAliveCountMax=3", "-oConnectTimeout=15")


class LaunchError(Exception):
    """Something that was given is wrong, or something failed; the message names it and the way out."""


@dataclasses.dataclass(frozen=True)
class Tpu:
    """A slice, and how it is asked for. The queued resource and its node bear one name.

    queued: by a queued resource, which waits for capacity, or else by creating the TPU VM, which fails without.
    accelerator_type, runtime_version: as gcloud names them; needed to create it.
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


def runtime_version(accelerator_type: str) -> str:
    """The software that a slice boots with, such as v2-alpha-tpuv5 for v5p-128.

    Raises:
      LaunchError: it is no type, or of a generation whose runtime version is not known here.
    """
    generation = re.fullmatch(r"(\w+)-[1-9]\d*", accelerator_type)
    if generation is None or generation[1] not in RUNTIME_VERSIONS:
        raise LaunchError(
            f"--accelerator_type={accelerator_type} is none of {', '.join(f'{name}-N' for name in RUNTIME_VERSIONS)}, "
            "such as v5p-128. A type that is newer than this list needs --runtime_version."
        )
    return RUNTIME_VERSIONS[generation[1]]


def has_many_workers(accelerator_type: str) -> bool:
    """Whether such a slice has more than one worker: beyond 8, cores up to v5p and chips of v5litepod and v6e."""
    size = accelerator_type.rpartition("-")[2]
    return size.isdigit() and int(size) > 8


def create(tpu: Tpu) -> list[str]:
    version = "--runtime-version" if tpu.queued else "--version"
    return [
        *_command(tpu, "create"),
        *([f"--node-id={tpu.name}"] if tpu.queued else []),
        f"--accelerator-type={tpu.accelerator_type}",
        f"{version}={tpu.runtime_version}",
        *(["--spot"] if tpu.spot else []),
        *(["--reserved"] if tpu.reserved else []),
        *([f"--service-account={tpu.service_account}"] if tpu.service_account else []),
    ]


def describe(tpu: Tpu) -> list[str]:
    """Prints the state alone, such as WAITING_FOR_RESOURCES."""
    return [*_command(tpu, "describe"), f"--format=value({'state.state' if tpu.queued else 'state'})"]


def delete(tpu: Tpu) -> list[str]:
    return [*_command(tpu, "delete"), *(["--force"] if tpu.queued else [])]  # With its node.


def ssh(tpu: Tpu, command: str, worker: str) -> list[str]:
    options = [f"--ssh-flag={option}" for option in _SSH_OPTIONS]
    return [*_vm(tpu, "ssh", tpu.name), f"--worker={worker}", *options, f"--command={command}"]


def upload(tpu: Tpu, files: Sequence[str]) -> list[str]:
    """Copies files into the home folder of every worker; their modes stay."""
    options = [f"--scp-flag={option}" for option in _SSH_OPTIONS]
    return [*_vm(tpu, "scp", *files, f"{tpu.name}:"), f"--worker={ALL}", *options]


def fetch(tpu: Tpu, workdir: str, output: str) -> list[str]:
    """Copies a run's folder, from its bucket or from worker 0, into a folder that is there.

    Raises:
      LaunchError: a path on the worker with characters that some versions of scp give to a shell there.
    """
    if workdir.startswith("gs://"):
        return ["gcloud", "storage", "cp", workdir, output, "--recursive", f"--project={tpu.project}", "--quiet"]
    if not re.fullmatch(r"[\w./=+,@%-]+", workdir):
        raise LaunchError(
            f"--workdir={workdir} cannot be fetched by scp: use letters, digits and ./=+,@%_- in its name."
        )
    path = workdir if workdir.startswith("/") else f"{FOLDER}/{workdir}"
    options = [f"--scp-flag={option}" for option in _SSH_OPTIONS]
    return [*_vm(tpu, "scp", f"{tpu.name}:{path}", output), "--recurse", "--worker=0", *options]


def pack(folder: str, names: Sequence[str]) -> list[str]:
    """Writes the archive and the environment file into a folder of this machine: see `launch.pack`."""
    return [sys.executable, "-m", "launch.pack", folder, *names]


def install() -> str:
    """Puts what was uploaded into its place on a worker, and installs it. Where a run is going on it changes nothing.

    uv brings Python 3.11, of which the images of TPU VMs have other versions.
    """
    python = ".venv/bin/python"
    steps = [
        f"mv {ENVIRONMENT} {FOLDER}/.launch/environment.json",
        f"cd {FOLDER}",
        "rm -rf experiments launch negot_jax",  # Files that are gone from the code are to go there as well.
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
    """Whether it is a training command that each worker would run by itself."""
    together = any(re.fullmatch("--?distributed(=.*)?", argument) for argument in command)
    return "experiments.train" in command and not together


def workdir(command: Sequence[str]) -> str | None:
    """The value of --workdir in a training command: the last one, which is the one that counts."""
    found = None
    for argument, following in itertools.zip_longest(command, command[1:]):
        if given := re.fullmatch(r"--?workdir(?:=(.*))?", argument, re.DOTALL):
            found = following if given[1] is None else given[1]
    return found


def _command(tpu: Tpu, verb: str) -> list[str]:
    kind = "queued-resources" if tpu.queued else "tpu-vm"
    return _gcloud(tpu, kind, verb, tpu.name)


def _vm(tpu: Tpu, verb: str, *arguments: str) -> list[str]:
    return _gcloud(tpu, "tpu-vm", verb, *arguments)


def _gcloud(tpu: Tpu, *arguments: str) -> list[str]:
    return ["gcloud", "compute", "tpus", *arguments, f"--project={tpu.project}", f"--zone={tpu.zone}", "--quiet"]
