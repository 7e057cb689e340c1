"""--help of every command: purpose, flags, then fields with their defaults; exit code 0."""

import os
import re

import pytest

from negot_jax import config as schema
from negot_jax.run import Config
from negot_jax.run.config import flat
from tests import forked

COMMANDS = [
    *("experiments.train", "experiments.evaluate", "experiments.export", "experiments.pool", "experiments.pretrained"),
    *("experiments.match", "experiments.play", "experiments.reproduce", "experiments.page", "experiments.persuasion"),
    *("experiments.best_response", "launch.compile_check", "launch.local", "launch.tpu"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_two_screens_with_the_flags_first(command):
    code, out, err = forked.run(command, ["--help"])
    assert (code, err) == (0, "")
    assert len(out.splitlines()) <= 80 and max(map(len, out.splitlines())) <= 120
    usage, flags = out.split("\nFlags:\n")
    assert f"python -m {command}" in usage and "  --" in flags.split("Configuration fields")[0]


def test_help_shows_defaults_and_the_full_help_every_field():
    _, out, _ = forked.run("experiments.train", ["--help"])
    assert "Required. Folder of the run" in out and "turns=6" in out
    names = re.findall(r"[ .](\w+)=", out)
    assert {name.split(".")[-1] for name in flat(Config())} <= set(names)
    code, out, _ = forked.run("experiments.train", ["--helpfull"])
    assert code == 0 and schema.help_text(Config) in out


@pytest.mark.parametrize("command", ["experiments.pool", "launch.local"])
def test_help_that_nobody_can_read_ends_well(command, tmp_path):
    """As in `--help | head`."""
    with forked.running(command, ["--help"], (os.devnull, "/dev/full", tmp_path / "err")) as process:
        process.join(60)
        assert (process.exitcode, (tmp_path / "err").read_text()) == (0, "")


def test_help_after_the_dashes_is_the_other_commands():
    code, out, _ = forked.run("launch.local", ["--", "no-such-command", "--help"])
    assert code == 1 and out == ""
