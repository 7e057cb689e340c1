"""Trains a buyer: warm start, reinforcement learning, report. Give the same command again to resume.

  python -m experiments.train --config=experiments/configs/quickstart.py --workdir=DIR [--config.x.y=v]

DIR gets manifest.json, metrics.csv, tensorboard/, tokenizer.model, warm_start/, checkpoints/ and report/.
"""

import contextlib
import os
import re
import sys

from absl import flags
from etils import epath
import jax
from ml_collections import config_flags

from experiments import cli, evaluate, setup
from negot_jax import config as door
from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import sharding, transformer
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Frozen
from negot_jax.training import checkpoint, distributed, loop, manifest, preemption
from negot_jax.training.metrics import read_csv
from negot_jax.training.warm_start import warm_start

if __name__ == "__main__":  # Flags are global: as a module, this one defines none.
    _CONFIG = config_flags.DEFINE_config_file(
        "config", None, "The run's configuration, a Python file with get_config()."
    )
    _WORKDIR = flags.DEFINE_string(
        "workdir", None, "Folder of the run, or gs://bucket/folder; a run that is there is resumed."
    )
    _DISTRIBUTED = flags.DEFINE_bool(
        "distributed", False, "One of many processes, which are found by themselves: on every worker of a TPU slice."
    )
    _CACHE = flags.DEFINE_string("compilation_cache", None, "Folder, or gs://bucket/folder, of compiled programs.")
    _PROFILE = flags.DEFINE_string("profile", None, "FROM:TO, the iterations to trace into WORKDIR/profile.")
    flags.mark_flags_as_required(["config", "workdir"])


def main() -> None:
    with cli.checking_input():
        workdir = cli.workdir(_WORKDIR.value)
        config = door.from_config_dict(setup.Config, _CONFIG.value)
        profile = _window(_PROFILE.value)
        distributed.start(_DISTRIBUTED.value)
    if _CACHE.value:
        jax.config.update("jax_compilation_cache_dir", _CACHE.value)
    with _first_prints(), cli.preemptible(workdir), cli.sole_use(workdir):
        with cli.checking_input():
            run, run_id = start(config, workdir)
        with jax.set_mesh(sharding.make(config.mesh)):
            train(run, workdir, run_id, profile)
            print(evaluate.report(run, workdir, run_id))


@contextlib.contextmanager
def _first_prints():
    """Of many processes the first one prints; what goes wrong, all do."""
    with contextlib.nullcontext() if distributed.is_first() else open(os.devnull, "w") as nowhere:
        with contextlib.redirect_stdout(nowhere or sys.stdout):
            yield


def _window(value: str | None) -> tuple[int, int] | None:
    """FROM:TO as two numbers."""
    if value is None:
        return None
    if not (found := re.fullmatch(r"(\d+):(\d+)", value)) or int(found[1]) > int(found[2]):
        raise ValueError(f"--profile={value} is not FROM:TO, two iterations such as 10:12.")
    return int(found[1]), int(found[2])


def start(config: setup.Config, workdir: epath.Path) -> tuple[setup.Run, str]:
    """Builds a run, enters it into the workdir's manifest, and names it by what identifies it.

    Of many processes the first one writes, once all have looked at what is there.

    Raises:
      ValueError: fields of the configuration that do not fit one another, the catalogue or the workdir's run; or a
        file of the workdir that is damaged; or a workdir that is another one for each machine.
    """
    # Damage is better known now than after the catalogue, or the warm start.
    if (workdir / manifest.FILE).exists():
        manifest.read(workdir)
    if (workdir / "metrics.csv").exists():
        read_csv(workdir / "metrics.csv")
    run = setup.prepare(config, workdir)
    facts = {"train": len(run.train), "test": len(run.test), "train_mutual": int(run.train.mutual.sum())}
    distributed.wait("run prepared")
    if distributed.is_first():
        manifest.record_start(workdir, config, config.seed, facts, run.dialect.tokenizer.model)
        if config.model.checkpoint is None and not (path := workdir / setup.TOKENIZER).exists():
            run.dialect.tokenizer.save(path)
        (workdir / cli.MARKER).unlink(missing_ok=True)
    distributed.wait("run recorded")
    if distributed.agree(not (workdir / manifest.FILE).exists()):
        raise ValueError(
            f"--workdir={workdir}: not every process sees what the first has written there. All need the same folder, "
            "such as one of a bucket, gs://bucket/run."
        )
    return run, manifest.run_id(manifest.read(workdir))


def train(run: setup.Run, workdir: epath.Path, run_id: str, profile: tuple[int, int] | None = None) -> None:
    """Warm start, unless one is there, and the loop, which SIGTERM ends with a checkpoint; on the current mesh."""
    program, weights, seller = run.program, *sharding.place((run.init_weights(), run.init_seller()))
    tables = sharding.place(run.train_tables)
    trained = program.trained(weights)
    total, own = map(transformer.parameter_count, (weights, trained))
    print(f"{total:,} parameters" + (f", of which {own:,} are trained" if own < total else ""))
    base = run.base(weights)
    if run.clones_seller:
        seller = _warm_start(run, SELLER, workdir / setup.WARM_START_SELLER, seller, tables, run_id)
    if run.config.warm_start.steps:
        trained = _warm_start(run, BUYER, workdir / setup.WARM_START, weights, tables, run_id)
    frozen = Frozen(base=base, opponent=seller, reference=run.reference(trained))
    state = sharding.place(program.init_state(jax.random.fold_in(run.key, 2), {**weights, **trained}))
    with preemption.noted(distributed.agree) as stop:
        loop.train(run.config.training, program, state, tables, workdir, run_id, frozen, stop, profile)


def _warm_start(
    run: setup.Run, role: int, path: epath.Path, weights: transformer.Weights, tables: Tables, run_id: str
) -> transformer.Weights:
    """What a side's warm start has trained, from the folder where it was saved, or made and saved there."""
    program = run.program
    model, trained = (program.model, program.trained(weights)) if role == BUYER else (program.opponent.model, weights)
    if path.exists():
        if (damage := checkpoint.damage(path)) is None:
            return checkpoint.read(path, trained, run_id)
        print(f"{path} is damaged: {damage}. It is made anew, which gives the same.")
    key = jax.random.fold_in(run.key, 1)
    trained = warm_start(run.config.warm_start, model, key, weights, tables, role)
    with preemption.noted(distributed.agree):
        checkpoint.write(path, trained, run_id)
    return trained


if __name__ == "__main__":
    sys.modules[__name__].__doc__ += "\nConfiguration fields:\n" + door.help_text(setup.Config)
    cli.run(main, setup.Config)
