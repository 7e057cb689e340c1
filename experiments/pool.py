"""Pools the reports of several runs, such as one configuration trained with several seeds, into one table.

  python -m experiments.pool --workdirs=runs/seed0,runs/seed1,runs/seed2 --output=runs/pooled

Intervals then cover another draw of products and another draw of runs. Writes evaluation.json, table.md, rewards.png.
"""

import json
import pathlib
import shlex
from typing import Any
import zipfile

from absl import flags
from etils import epath

from experiments import cli
from negot_jax.evaluation import figures, statistics, tables

if __name__ == "__main__":  # Flags are global: as a module, this one defines none.
    _WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of finished runs, separated by commas.", required=True)
    _OUTPUT = flags.DEFINE_string("output", None, "Folder for the pooled report.", required=True)


def pool(workdirs: list[epath.Path], output: pathlib.Path) -> str:
    """Writes the pooled report; returns its tables as text.

    Raises:
      ValueError: a run has no report, or the runs were not measured on the same thing.
    """
    if not workdirs:
        raise ValueError("--workdirs names no folder. Name at least one run that has a report.")
    reports = [workdir / "report" for workdir in workdirs]
    runs, settings = zip(*map(_read, reports), strict=True)
    for report, own in zip(reports, settings, strict=True):
        for name, value in own.items():
            if name not in ("seeds", "command") and value != settings[0][name]:
                raise ValueError(f"--workdirs: {report} has {name}={value!r}, {reports[0]} {settings[0][name]!r}.")
    summary = statistics.summarise(runs)
    command = (
        f"python -m experiments.pool --workdirs={','.join(map(str, workdirs))} --output={shlex.quote(str(output))}"
    )
    pooled = tables.Settings(
        **settings[0] | {"seeds": tuple(sum((own["seeds"] for own in settings), [])), "command": command}
    )
    output.mkdir(parents=True, exist_ok=True)
    tables.save(output, summary, pooled)
    figures.reward_intervals(summary, output / "rewards.png")
    return tables.text(summary, pooled)


def _read(report: epath.Path) -> tuple[dict[str, statistics.Totals], dict[str, Any]]:
    """The totals of a report, and what they were measured on."""
    if not (report / "totals.npz").exists():
        raise ValueError(f"--workdirs: {report} holds no totals.npz. Evaluate the run first.")
    try:
        settings = json.loads((report / "evaluation.json").read_text(encoding="utf-8"))["settings"]
        return statistics.load_totals(report / "totals.npz"), settings
    except (ValueError, LookupError, zipfile.BadZipFile) as error:
        raise ValueError(f"--workdirs: {report} is damaged: {error}. Evaluate the run again.") from error


def main() -> None:
    with cli.checking_input():
        print(pool(list(map(epath.Path, _WORKDIRS.value)), pathlib.Path(_OUTPUT.value)))


if __name__ == "__main__":
    cli.run(main)
