"""Trains a buyer: warm start, reinforcement learning, report. Give the same command again to resume.

  python -m experiments.train --config=experiments/configs/quickstart.py --workdir=DIR [--config.x.y=v]

DIR gets manifest.json, metrics.csv, tensorboard/, tokenizer.model, warm_start/, checkpoints/ and report/.
"""

import pathlib
import sys

from absl import flags
import jax
from ml_collections import config_flags

from experiments import cli, evaluate, setup
from negot_jax import config as door
from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import sharding, transformer
from negot_jax.rl.learner import Frozen
from negot_jax.training import checkpoint, loop, manifest, preemption
from negot_jax.training.metrics import read_csv
from negot_jax.training.warm_start import warm_start

if __name__ == "__main__":  # Flags are global: as a module, this one defines none.
    _CONFIG = config_flags.DEFINE_config_file(
        "config", None, "The run's configuration, a Python file with get_config()."
    )
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; a run that is there is resumed.")
    flags.mark_flags_as_required(["config", "workdir"])


def main() -> None:
    workdir = pathlib.Path(_WORKDIR.value)
    with cli.checking_input():
        config = door.from_config_dict(setup.Config, _CONFIG.value)
    with cli.preemptible(workdir), cli.sole_use(workdir):
        with cli.checking_input():
            run, run_id = start(config, workdir)
        train(run, workdir, run_id)
        print(evaluate.report(run, workdir, run_id))


def start(config: setup.Config, workdir: pathlib.Path) -> tuple[setup.Run, str]:
    """Builds a run, enters it into the workdir's manifest, and names it by what identifies it.

    Raises:
      ValueError: fields of the configuration that do not fit one another, the catalogue or the workdir's run; or a
        file of the workdir that is damaged.
    """
    # Damage is better known now than after the catalogue, or the warm start.
    if (workdir / manifest.FILE).exists():
        manifest.read(workdir)
    if (workdir / "metrics.csv").exists():
        read_csv(workdir / "metrics.csv")
    run = setup.prepare(config, workdir)
    facts = {"train": len(run.train), "test": len(run.test), "train_mutual": int(run.train.mutual.sum())}
    recorded = manifest.record_start(workdir, config, config.seed, facts, run.dialect.tokenizer.model)
    if config.model.checkpoint is None and not (path := workdir / setup.TOKENIZER).exists():
        run.dialect.tokenizer.save(path)
    (workdir / cli.MARKER).unlink(missing_ok=True)
    return run, manifest.run_id(recorded)


def train(run: setup.Run, workdir: pathlib.Path, run_id: str) -> None:
    """Warm start, unless one is there, and the loop, which SIGTERM ends with a checkpoint."""
    statics, weights = run.learner, run.init_weights()
    trained = statics.trained(weights)
    total, own = map(transformer.parameter_count, (weights, trained))
    print(f"{total:,} parameters" + (f", of which {own:,} are trained" if own < total else ""))
    base, seller = run.base(weights), run.init_seller()
    if run.clones_seller:
        seller = _warm_start(run, SELLER, workdir / setup.WARM_START_SELLER, seller, run_id)
    if run.config.warm_start.steps:
        trained = _warm_start(run, BUYER, workdir / setup.WARM_START, weights, run_id)
    frozen = Frozen(base=base, seller=seller, reference=run.reference(trained))
    state = statics.init_state(jax.random.fold_in(run.key, 2), {**weights, **trained})
    with jax.set_mesh(sharding.make(run.config.mesh)), preemption.noted() as stop:
        state, env, frozen = sharding.place((state, run.train_env, frozen))
        loop.train(run.config.training, statics, state, env, workdir, run_id, frozen, stop)


def _warm_start(
    run: setup.Run, role: int, path: pathlib.Path, weights: transformer.Weights, run_id: str
) -> transformer.Weights:
    """What a side's warm start has trained, from the folder where it was saved, or made and saved there."""
    statics = run.learner
    model, trained = (statics.model, statics.trained(weights)) if role == BUYER else (statics.seller.model, weights)
    if path.exists():
        if (damage := checkpoint.damage(path)) is None:
            return checkpoint.read(path, trained, run_id)
        print(f"{path} is damaged: {damage}. It is made anew, which gives the same.")
    key = jax.random.fold_in(run.key, 1)
    trained = warm_start(run.config.warm_start, model, key, weights, run.train_env, role)
    with preemption.noted():
        checkpoint.write(path, trained, run_id)
    return trained


if __name__ == "__main__":
    sys.modules[__name__].__doc__ += "\nConfiguration fields:\n" + door.help_text(setup.Config)
    cli.run(main, setup.Config)
