"""Trains a buyer, a seller or both: warm start, reinforcement learning, report. The same command again resumes.

  python -m experiments.train --config=experiments/configs/quickstart.py --workdir=DIR [--config.x.y=v]

DIR gets manifest.json, metrics.csv, tensorboard/, tokenizer.model, warm_start/, checkpoints/ and report/.
"""

import contextlib
import os
import re
import sys

from absl import flags

from experiments import cli
from negot_jax import run
from negot_jax.run import config as configs
from negot_jax.training import distributed


def main() -> None:
    with cli.checking_input():
        config = configs.load(_CONFIG.value)
        profile = _window(_PROFILE.value, config.training.iterations)
        if _CHECK.value is not None:
            for name, path in run.check(config, _CHECK.value).items():
                print(f"config.{name}={path}")
            return
        distributed.start(_DISTRIBUTED.value)
        run.require_backend()
        workdir = run.workdir(_WORKDIR.value)
    # Of several processes the first prints; errors are printed by all.
    shown = sys.stdout if distributed.is_first() else open(os.devnull, "w")
    with contextlib.redirect_stdout(shown), cli.preemptible(workdir):
        with cli.checking_input():
            buyer = run.build(config, workdir)
            evaluation = buyer.prepare_evaluation()
        buyer.train(profile)
        print(evaluation.report())


def _window(value: str | None, iterations: int) -> tuple[int, int] | None:
    """FROM:TO as two numbers, both of iterations that there are."""
    if value is None:
        return None
    if not (found := re.fullmatch(r"(\d+):(\d+)", value)) or int(found[1]) > int(found[2]):
        raise ValueError(f"--profile={value} is not FROM:TO, two iterations such as 10:12.")
    if int(found[2]) >= iterations:
        raise ValueError(f"--profile={value}: training.iterations={iterations} are counted from 0. Name earlier ones.")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    _CONFIG = cli.define_config("The run's configuration: a Python file with get_config().")
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, or gs://bucket/folder; a run there is resumed.")
    _DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Run as one of many processes, as on a TPU slice's workers.")
    _PROFILE = flags.DEFINE_string("profile", None, "FROM:TO, the iterations to trace into WORKDIR/profile.")
    told = "Only check flags and configuration, for a mesh of this many devices (0 skips it); print what it reads."
    _CHECK = flags.DEFINE_integer("check", None, told, lower_bound=0, upper_bound=100_000)
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main, run.Config, compiles=True)
