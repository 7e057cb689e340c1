"""Each command, argument by argument, and what survives quoting."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shlex
import shutil
import subprocess

from hypothesis import given
from hypothesis import strategies as st
import pytest

from launch import commands
from launch.commands import LaunchError, Tpu
from launch.lifecycle import Session

QUEUED = Tpu("bargain", "p", "z", accelerator_type="v5p-128", runtime_version="v2-alpha-tpuv5")
AT_ONCE = Tpu("bargain", "p", "z", queued=False, accelerator_type="v4-8", runtime_version="tpu-ubuntu2204-base")
PLACE = ["--project=p", "--zone=z", "--quiet"]
# What an argument list can hold: no NUL, and nothing that is not Unicode.
ARGUMENTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1)


@pytest.mark.parametrize(
    "options, added",
    [
        ({}, []),
        ({"spot": True}, ["--spot"]),
        ({"reserved": True, "service_account": "a@b"}, ["--reserved", "--service-account=a@b"]),
    ],
)
def test_create(options, added):
    queued = Tpu("bargain", "p", "z", True, "v5p-128", "v2-alpha-tpuv5", **options)
    gcloud = ["gcloud", "compute", "tpus", "queued-resources", "create", "bargain", *PLACE, "--node-id=bargain"]
    assert commands.create(queued) == [
        *gcloud,
        "--accelerator-type=v5p-128",
        "--runtime-version=v2-alpha-tpuv5",
        *added,
    ]
    at_once = Tpu("bargain", "p", "z", False, "v4-8", "tpu-ubuntu2204-base", **options)
    gcloud = ["gcloud", "compute", "tpus", "tpu-vm", "create", "bargain", *PLACE]
    assert commands.create(at_once) == [*gcloud, "--accelerator-type=v4-8", "--version=tpu-ubuntu2204-base", *added]


def test_describe_and_delete():
    gcloud = ["gcloud", "compute", "tpus"]
    queued = [*gcloud, "queued-resources"]
    assert commands.describe(QUEUED) == [*queued, "describe", "bargain", *PLACE, "--format=value(state.state)"]
    assert commands.describe(AT_ONCE) == [*gcloud, "tpu-vm", "describe", "bargain", *PLACE, "--format=value(state)"]
    assert commands.delete(QUEUED) == [*queued, "delete", "bargain", *PLACE, "--force"]
    assert commands.delete(AT_ONCE) == [*gcloud, "tpu-vm", "delete", "bargain", *PLACE]


@pytest.mark.parametrize("tpu", [QUEUED, AT_ONCE])
def test_ssh_and_scp(tpu):
    vm = ["gcloud", "compute", "tpus", "tpu-vm"]
    alive = ["-oServerAliveInterval=30", "-oServerAliveCountMax=3", "-oConnectTimeout=15"]
    ssh, scp = [f"--ssh-flag={option}" for option in alive], [f"--scp-flag={option}" for option in alive]
    assert commands.ssh(tpu, "a; b", "all") == [*vm, "ssh", "bargain", *PLACE, "--worker=all", *ssh, "--command=a; b"]
    assert commands.upload(tpu, ["a", "b"]) == [*vm, "scp", "a", "b", "bargain:", *PLACE, "--worker=all", *scp]
    got = [*vm, "scp", "bargain:negot_jax/runs/1", "out", *PLACE, "--recurse", "--worker=0", *scp]
    assert commands.fetch(tpu, "runs/1", "out") == got
    assert commands.fetch(tpu, "/mnt/run", "out")[5] == "bargain:/mnt/run"
    bucket = ["gcloud", "storage", "cp", "gs://b/run 1", "out", "--recursive", "--project=p", "--quiet"]
    assert commands.fetch(tpu, "gs://b/run 1", "out") == bucket
    with pytest.raises(LaunchError, match="--workdir=runs/\\$X cannot be fetched by scp: use only letters"):
        commands.fetch(tpu, "runs/$X", "out")


@pytest.mark.parametrize(
    "accelerator_type, version",
    [("v3-8", "tpu-ubuntu2204-base"), ("v5litepod-16", "v2-alpha-tpuv5-lite"), ("v6e-256", "v2-alpha-tpuv6e")],
)
def test_runtime_version(accelerator_type, version):
    assert commands.runtime_version(accelerator_type) == version


@pytest.mark.parametrize("accelerator_type", ["v5e-8", "v5p", "v5p-0", "v5p-8x", "", "v9-8"])
def test_unknown_accelerator_type(accelerator_type):
    with pytest.raises(LaunchError, match="--accelerator_type=.* is none of v2-N, .* needs --runtime_version"):
        commands.runtime_version(accelerator_type)


@pytest.mark.parametrize(
    "command, workdir",
    [
        (["python", "--workdir=a=b c"], "a=b c"),
        (["python", "-workdir", "a", "--x"], "a"),
        (["python", "--workdir=a", "--workdir", "b"], "b"),
        (["python", "--workdirs=a", "--workdir"], None),
        ([], None),
    ],
)
def test_workdir(command, workdir):
    assert commands.workdir(command) == workdir


@pytest.mark.parametrize(
    "accelerator_type, many",
    [("v4-8", False), ("v5p-8", False), ("v6e-8", False), ("v5p-16", True), ("v5litepod-256", True), ("odd", False)],
)
def test_has_many_workers(accelerator_type, many):
    assert commands.has_many_workers(accelerator_type) is many


@pytest.mark.parametrize(
    "command, alone",
    [
        (["python", "-m", "experiments.train", "--workdir=a"], True),
        (["python", "-m", "experiments.train", "--distributed"], False),
        (["sh", "-c", "true; exec", "python", "-m", "experiments.train", "-distributed=true"], False),
        (["gcloud", "storage", "ls"], False),
    ],
)
def test_trains_alone(command, alone):
    assert commands.trains_alone(command) is alone


@given(ARGUMENTS)
def test_a_dry_run_pastes(arguments):
    """A shell that is given what is printed gets the arguments, whatever is in them."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        Session(QUEUED, poll_seconds=0, dry_run=True).run(arguments)
    assert shlex.split(printed.getvalue()) == arguments


@given(ARGUMENTS)
def test_a_command_reaches_the_worker(arguments):
    start, rest = commands.on_worker("start", *arguments).split(" && ", 1)
    assert start == "cd negot_jax"
    assert shlex.split(rest) == [".venv/bin/python", "-m", "launch.worker", "start", *arguments]


def test_a_shell_agrees():
    arguments = ["a  b", "'\"", "$HOME `id` $(id)", "; exit 1 #", "\n\t\\\n", "*", "~", "", "-e", "&& x | y > z", "é"]
    pasted = shlex.join(["printf", r"%s\0", *arguments])
    assert subprocess.run(["sh", "-c", pasted], capture_output=True, text=True).stdout.split("\0")[:-1] == arguments


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="needs gcloud, which checks its own flags")
def test_gcloud_knows_the_flags(tmp_path: pathlib.Path):
    """By gcloud's own parser, which asks no server, and which is not to be confused by quotes: here none is needed."""
    tried = [
        commands.ssh(QUEUED, "true", "all"),
        commands.upload(QUEUED, ["a", "b"]),
        commands.fetch(QUEUED, "runs/1", "out"),
        commands.fetch(QUEUED, "gs://b/run", "out"),
    ]
    for tpu in (QUEUED, AT_ONCE):
        tried.append(commands.create(dataclasses.replace(tpu, spot=True, service_account="a@b")))
        tried.append(commands.create(dataclasses.replace(tpu, reserved=True)))
        tried += [commands.describe(tpu), commands.delete(tpu)]
    file = tmp_path / "commands.json"
    file.write_text(json.dumps([{"command_string": " ".join(command)} for command in tried]))
    lint = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"]
    environment = {"CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false"}
    answers = json.loads(subprocess.run(lint, env={**os.environ, **environment}, capture_output=True).stdout)
    assert len(answers) == len(tried)
    assert [answer["error_message"] for answer in answers if not answer["success"]] == []
