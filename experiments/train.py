"""Trains a buyer: warm start, reinforcement learning, report. Give the same command again to resume.

  python -m experiments.train --config=experiments/configs/quickstart.py --workdir=DIR [--config.x.y=v]

DIR gets manifest.json, metrics.csv, tensorboard/, tokenizer.model, warm_start/, checkpoints/ and report/.
"""

import pathlib
import sys

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import config_flags

from experiments import cli, evaluate, setup
from negot_jax import config as door
from negot_jax.models import sharding, transformer
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
    recorded = manifest.record_start(workdir, config, config.seed, facts, run.tokenizer.model)
    if not (path := workdir / setup.TOKENIZER).exists():
        run.tokenizer.save(path)
    (workdir / cli.MARKER).unlink(missing_ok=True)
    return run, manifest.run_id(recorded)


def train(run: setup.Run, workdir: pathlib.Path, run_id: str) -> None:
    """Warm start, unless one is there, and the loop, which SIGTERM ends with a checkpoint."""
    weights = run.init_weights()
    print(f"{transformer.parameter_count(weights):,} parameters")
    weights = _warm_start(run, workdir / "warm_start", weights, run_id)
    # A divergence is measured from the warm start: a copy, since the loop gives up the state's own arrays.
    reference = jax.tree.map(jnp.copy, weights) if run.config.algorithm.kl != "none" else None
    state = run.learner.init_state(jax.random.fold_in(run.key, 2), weights)
    with jax.set_mesh(sharding.mesh()), preemption.noted() as stop:
        state, env, reference = sharding.replicate((state, run.train_env, reference))
        loop.train(run.config.training, run.learner, state, env, workdir, run_id, reference, stop)


def _warm_start(run: setup.Run, path: pathlib.Path, weights: transformer.Weights, run_id: str) -> transformer.Weights:
    if path.exists():
        if (damage := checkpoint.damage(path)) is None:
            return checkpoint.read(path, weights, run_id)
        print(f"{path} is damaged: {damage}. It is made anew, which gives the same.")
    weights = warm_start(
        run.config.warm_start, run.learner.model, jax.random.fold_in(run.key, 1), weights, run.train_env
    )
    with preemption.noted():
        checkpoint.write(path, weights, run_id)
    return weights


if __name__ == "__main__":
    sys.modules[__name__].__doc__ += "\nConfiguration fields:\n" + door.help_text(setup.Config)
    cli.run(main, setup.Config)
