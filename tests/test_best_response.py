"""The command: what it prints is what it writes, and it is never silent for long."""

import json
import re
import time

import pytest

from negot_jax import progress
from tests import forked


@pytest.mark.slow
def test_what_is_written_is_what_is_printed(tmp_path):
    seller = "--seller=linear(k=0.2, tick=500)"
    arguments = [seller, "--turns=2", "--cost=uniform(0.2, 0.9)", "--grid=500", f"--output={tmp_path}"]
    code, out, err = forked.run("experiments.best_response", arguments)
    assert code == 0, err
    assert "1 turn: solving on a grid of 500 cents\n" in err
    printed = re.findall(r"^(.{26}) +(\d\.\d{4}) ", out, re.MULTILINE)
    *_, two_turns = json.loads((tmp_path / "best_response.json").read_text())["by_turns"]
    assert printed == [(f"{name:26}", f"{row['value']:.4f}") for name, row in two_turns.items()]
    assert (tmp_path / "best_response.png").stat().st_size > 0


def test_what_takes_long_is_said_again(capsys):
    with progress.reported(every=0.02) as say:
        say("solving")
        time.sleep(0.3)
        say("playing")
    first, *again, last = capsys.readouterr().err.splitlines()
    assert (first, last) == ("solving", "playing") and len(again) > 2
    assert all(re.fullmatch(r"solving \(\d+ s\)", line) for line in again)
