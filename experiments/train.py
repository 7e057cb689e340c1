"""Trains a buyer: warm start, reinforcement learning, report. Run the same command again to resume.

  python -m experiments.train --config=experiments/configs/quickstart.py --workdir=DIR [--config.x.y=v]

DIR gets manifest.json, metrics.csv, tensorboard/, tokenizer.model, warm_start/, checkpoints/ and report/.
"""

import pathlib
import sys

from absl import app, flags, logging
import jax
from ml_collections import config_flags

from experiments import evaluate, setup
from negot_jax import config as door
from negot_jax.models import transformer
from negot_jax.rl import learner
from negot_jax.training import loop, manifest
from negot_jax.training.checkpoint import Checkpoints
from negot_jax.training.warm_start import warm_start

_CONFIG = config_flags.DEFINE_config_file("config", None, "The run's configuration, a Python file with get_config().")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; a run that is there is resumed.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}. Options are written --config.x.y=value.")
    logging.set_verbosity(logging.ERROR)  # Of libraries; what we say is printed.
    workdir = pathlib.Path(_WORKDIR.value)
    try:
        config = door.from_config_dict(setup.Config, _CONFIG.value)
        run = setup.prepare(config, workdir)
        facts = {"train": len(run.train), "test": len(run.test), "train_mutual": int(run.train.mutual.sum())}
        manifest.record_start(workdir, config, config.seed, facts)
        run.tokenizer.save(workdir / setup.TOKENIZER)
    except (ValueError, TypeError) as error:
        sys.exit(f"error: {error}")
    train(run, workdir)
    print(evaluate.report(run, workdir))


def train(run: setup.Run, workdir: pathlib.Path) -> None:
    """Warm start, unless one is there, and the loop."""
    weights = run.init_weights()
    print(f"{transformer.parameter_count(weights):,} parameters")
    with Checkpoints(workdir / "warm_start", keep=1) as warm:
        if warm.latest is None:
            key = jax.random.fold_in(run.key, 1)
            weights = warm_start(run.config.warm_start, run.learner.model, key, weights, run.train_env)
            warm.save(0, weights, {"reward": 0.0}, {})
        else:
            weights, _ = warm.restore(warm.latest, weights)
    state = learner.init_state(jax.random.fold_in(run.key, 2), weights, run.learner.make_optimizer())
    loop.train(run.config.training, run.learner, state, run.train_env, workdir)


if __name__ == "__main__":
    sys.modules[__name__].__doc__ += "\nConfiguration fields:\n" + door.help_text(setup.Config)
    app.run(main)
