"""Pools the reports of several runs, one configuration trained with several seeds, into one table.

  python -m experiments.pool --workdirs=runs/seed0,runs/seed1,runs/seed2 --output=runs/pooled [--report=NAME]

Intervals then cover another draw of products and another draw of runs. Writes evaluation.json, table.md, rewards.png.
"""

import shlex
import sys

from absl import flags

from experiments import cli
from negot_jax.evaluation import pooling
from negot_jax.run import folder, reporting


def main() -> None:
    with cli.checking_input():
        if not all(_WORKDIRS.value or [""]):
            raise ValueError("--workdirs names no folder. Name at least one run that has a report, and no empty name.")
        output = folder.local_folder(_OUTPUT.value, "--output")
        reports = [folder.workdir(name, "--workdirs") / _REPORT.value for name in _WORKDIRS.value]
        print(pooling.pool(reports, output, shlex.join(["python", "-m", "experiments.pool", *sys.argv[1:]])))


if __name__ == "__main__":
    _WORKDIRS = flags.DEFINE_list("workdirs", None, "Folders of finished runs, separated by commas.", required=True)
    _OUTPUT = flags.DEFINE_string("output", None, "Folder for the pooled report.", required=True)
    _REPORT = flags.DEFINE_string("report", reporting.REPORT, "Name of the report in each of the folders.")
    cli.run(main)
