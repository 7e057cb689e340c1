"""Each command, argument by argument, and what survives quoting."""

import contextlib
import io
import json
import os
import pathlib
import shlex
import shutil
import subprocess
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
import pytest

from launch.lifecycle import Slice
from tests.launch.cloud import printed

OPTIONS = {
    **{"name": "bargain", "project": "p", "zone": "z", "accelerator_type": "v5p-128", "runtime_version": "v2-alpha"},
    **dict.fromkeys(["spot", "reserved", "reservation", "flex_start", "service_account"]),
    **{"env": [], "worker": 3, "poll_seconds": 0, "dry_run": True},
}
PLACE = ["--project=p", "--zone=z", "--quiet"]
CAPACITIES = {
    "": ({}, []),
    "spot": ({"spot": True}, ["--spot"]),
    "reserved": ({"reserved": True, "service_account": "a@b"}, ["--reserved", "--service-account=a@b"]),
    "calendar": ({"reservation": "june"}, ["--reservation=june", "--provisioning-model=reservation-bound"]),
    "flex-start": ({"flex_start": 24}, ["--provisioning-model=flex-start", "--max-run-duration=24h"]),
}
# What an argument list can hold: no NUL, and nothing that is not Unicode.
ARGUMENTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1)


def commands(act, command=(), **options) -> list[list[str]]:
    """The gcloud commands that an action on a slice runs, by a dry run."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        act(Slice(SimpleNamespace(**OPTIONS | options), command))
    return printed(out.getvalue())


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_create(capacity):
    """Only gcloud's alpha track knows calendar reservations and flex-start."""
    options, added = CAPACITIES[capacity]
    track = ["alpha"] if capacity in ("calendar", "flex-start") else []
    queued = ["compute", "tpus", "queued-resources"]
    _, create, describe = commands(lambda tpu: tpu.create(), **options)
    assert create[: len(track) + 5] == ["gcloud", *track, *queued, "create"]
    machine = ["--accelerator-type=v5p-128", "--runtime-version=v2-alpha"]
    assert create[len(track) + 5 :] == ["bargain", "--node-id=bargain", *PLACE, *machine, *added]
    assert describe == ["gcloud", *queued, "describe", "bargain", *PLACE, "--format=value(state.state)"]


def test_the_other_commands():
    tpus = ["gcloud", "compute", "tpus"]
    assert commands(lambda tpu: tpu.delete()) == [[*tpus, "queued-resources", "delete", "bargain", *PLACE, "--force"]]
    alive = ["-oServerAliveInterval=30", "-oServerAliveCountMax=3", "-oConnectTimeout=15"]
    ssh, scp = ([f"--{verb}-flag={option}" for option in alive] for verb in ("ssh", "scp"))
    (logs,) = commands(lambda tpu: tpu.logs())
    assert logs[:-1] == [*tpus, "tpu-vm", "ssh", "bargain", *PLACE, "--worker=3", *ssh]
    upload, install = commands(lambda tpu: tpu.setup())
    archive = os.path.expanduser("~/.cache/negot_jax/launch/bargain/negot_jax.tar.gz")
    assert upload == [*tpus, "tpu-vm", "scp", archive, "bargain:", *PLACE, "--worker=all", *scp]
    assert install[:-1] == [*tpus, "tpu-vm", "ssh", "bargain", *PLACE, "--worker=all", *ssh]


@given(ARGUMENTS)
def test_a_command_reaches_the_worker(arguments):
    """A shell that is given what is printed, and the shell there, get the arguments, whatever is in them."""
    start, *_ = commands(lambda tpu: tpu.run(), arguments)
    (command,) = [word.removeprefix("--command=") for word in start if word.startswith("--command=")]
    assert shlex.split(command)[-len(arguments) - 3 :] == ["-m", "launch.worker", "start", *arguments]


def test_a_shell_agrees():
    arguments = ["a  b", "'\"", "$HOME `id` $(id)", "; exit 1 #", "\n\t\\\n", "*", "~", "", "-e", "&& x | y > z", "é"]
    pasted = shlex.join(["printf", r"%s\0", *arguments])
    assert subprocess.run(["sh", "-c", pasted], capture_output=True, text=True).stdout.split("\0")[:-1] == arguments


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="needs gcloud, which checks its own flags")
def test_gcloud_knows_the_flags(tmp_path: pathlib.Path):
    """By gcloud's own parser, which asks no server. It is confused by quotes: commands for the workers are left out."""
    tried = [commands(lambda tpu: tpu.create(), **options)[1] for options, _ in CAPACITIES.values()]
    tried += commands(lambda tpu: (tpu.state(), tpu.setup(), tpu.logs(), tpu.delete()))
    tried = [[word for word in command if not word.startswith("--command=")] for command in tried]
    file = tmp_path / "commands.json"
    file.write_text(json.dumps([{"command_string": " ".join(command)} for command in tried]))
    lint = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"]
    environment = {"CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false"}
    answers = json.loads(subprocess.run(lint, env={**os.environ, **environment}, capture_output=True).stdout)
    assert len(answers) == len(tried)
    assert [answer["error_message"] for answer in answers if not answer["success"]] == []
