"""The launcher as a user calls it, against a stand-in for the cloud."""

import contextlib
import io
import json
import os
import pathlib
import shlex
import sys
from typing import NamedTuple

from absl.testing import flagsaver

from launch import tpu

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ("--name=bargain", "--project=p", "--zone=z", "--poll_seconds=0")
SECRET = 'a secret\'s $value; in "quotes"'


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Cloud:
    """A folder with a stand-in for gcloud, whose states and failures are scripted: see tests/launch/gcloud.py."""

    def __init__(self, folder: pathlib.Path, monkeypatch, capfd):
        self.folder = folder
        self.capfd = capfd
        gcloud = folder / "bin" / "gcloud"
        gcloud.parent.mkdir(parents=True)
        gcloud.write_text(f"#!{sys.executable} -IS\n" + (ROOT / "tests/launch/gcloud.py").read_text())
        gcloud.chmod(0o700)
        self.environment = {
            "PATH": os.pathsep.join([str(gcloud.parent), "/usr/bin", "/bin"]),
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "TOKEN": SECRET,
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        self.script(states=["NOT_FOUND", "ACTIVE"])

    def script(self, states: list[str], failures: list[tuple[str, int]] = (), workers: int = 1) -> None:
        """failures: parts of a command line, each of which makes one command fail, with an exit code."""
        for name, value in {"states": states, "failures": failures, "size": workers}.items():
            (self.folder / name).write_text(json.dumps(value))

    def worker(self, index: int) -> pathlib.Path:
        """The folder with the code on a worker."""
        return self.folder / "workers" / str(index) / "negot_jax"

    def calls(self) -> list[list[str]]:
        calls = self.folder / "calls"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    def verbs(self) -> list[str]:
        """What was asked for, in order: gcloud's verbs, and for ssh what it is to do on the workers."""
        return [_verb(call) for call in self.calls()]

    def launch(self, subcommand: str, *arguments: str) -> Ended:
        """Calls the launcher within this process, with the flags that every subcommand needs."""
        given = command(subcommand, *arguments)[2:]
        split = given.index("--") if "--" in given else len(given)
        code, said = 0, ""
        with flagsaver.flagsaver():
            try:
                tpu.main(given[:split], given[split + 1 :])
            except SystemExit as ended:
                code, said = (ended.code, "") if isinstance(ended.code, int) else (1, f"{ended.code}\n")
        out, err = self.capfd.readouterr()
        return Ended(code, out, err + said)


def command(*arguments: str) -> list[str]:
    """What a user types, the subcommand first."""
    return [sys.executable, "-m", "launch.tpu", *arguments[:1], *FLAGS, *arguments[1:]]


def printed(output: str) -> list[list[str]]:
    """The gcloud commands of a dry run: one a line, or more where a line ends within quotes."""
    commands, text = [], ""
    for line in io.StringIO(output):
        text += line
        with contextlib.suppress(ValueError):  # No closing quotation.
            commands.append(shlex.split(text))
            text = ""
    return [command for command in commands if command[:1] == ["gcloud"]]


def _verb(call: list[str]) -> str:
    verb = [word for word in call if word != "alpha"][4]
    if verb != "ssh":
        return verb
    done = [word for word in ("start", "follow", "result", "status") if f"launch.worker {word}" in call[-1]]
    return done[0] if done else "install"
