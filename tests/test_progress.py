"""Progress: lines where there is no terminal, the innermost phase, and streams that are gone."""

import os
import subprocess
import sys
import time

import pytest

from negot_jax import progress


def test_a_bar_shows_the_chosen_metrics(capsys):
    with progress.Bar("training", 3, done=1) as bar:
        bar.update({"reward": 0.123456, "loss": 7.0}, ("reward", "absent"))
    shown = capsys.readouterr().err
    assert "2/3" in shown and "reward=0.123" in shown
    assert "loss" not in shown and "absent" not in shown


def test_the_innermost_phase_speaks_while_it_lasts(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.05)
    with progress.Bar("training", 3):
        with progress.Bar("compiling train_step"):
            time.sleep(0.4)
        inner = capsys.readouterr().err.splitlines()
        time.sleep(0.4)
    outer = capsys.readouterr().err.splitlines()
    assert len(inner) > 2 and "training" in inner[0] and all("compiling train_step ... " in line for line in inner[1:])
    assert len(outer) > 2 and all("training:   0%" in line for line in outer)
    assert not progress._active


_SAYS = """
import sys
from experiments import cli
from negot_jax import progress
def main():
    with progress.Bar("training", 2) as bar:
        for _ in range(2):
            print("\u0394", "x" * 100_000)
            bar.update()
    open("done", "w").close()
cli.guard(main)
"""


@pytest.mark.parametrize("redirection", [">&- 2>&-", "2>&1 | true", "> /dev/full 2>&1"])
def test_a_stream_that_takes_nothing_is_no_reason_to_fail(tmp_path, redirection):
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "PYTHONIOENCODING": "ascii"}
    line = f"set -o pipefail; {sys.executable} -c '{_SAYS}' {redirection}"
    subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "done").exists()
