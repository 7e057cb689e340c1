"""A run that takes seconds, as a configuration and as a command line, for tests of the whole."""

from collections.abc import Mapping
import pathlib
import sys
from typing import Any

from experiments.configs import quickstart
from negot_jax.config import from_config_dict
from negot_jax.run.config import Config, override

ROOT = pathlib.Path(__file__).parents[1]
ITERATIONS = 8
OVERRIDES = {
    "catalog.test": 8,
    "game.turns": 2,
    "language.vocab_size": 512,
    "language.text_tokens": 2,
    "language.message_tokens": 32,
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 1,
    "model.head_dim": 16,
    "model.mlp": 32,
    "warm_start.steps": 3,
    "warm_start.episodes": 16,
    "warm_start.micro_batches": 1,
    "learner.scenarios": 4,
    "learner.group": 2,
    "learner.micro_batches": 1,
    "training.iterations": ITERATIONS,
    "training.checkpoint_every": 2,
    "evaluation.episodes": 2,
    "evaluation.batch": 16,
    "evaluation.transcripts": 2,
    "evaluation.tuning_draws": 1,
    "evaluation.best_response": False,
    "evaluation.buyers": ("linear",),
}


def config(**overrides) -> Config:
    """The configuration. overrides: dotted fields, with `__` for the dot."""
    return overridden({name.replace("__", "."): value for name, value in overrides.items()})


def overridden(values: Mapping[str, Any]) -> Config:
    """The configuration with fields set by dotted name."""
    return override(from_config_dict(Config, quickstart.get_config()), OVERRIDES | dict(values))


def arguments(workdir: pathlib.Path) -> list[str]:
    """The arguments of experiments.train that make the same run in a folder."""
    flags = [f"--config.{name}={value}" for name, value in OVERRIDES.items()]
    return [f"--config={ROOT / 'experiments/configs/quickstart.py'}", f"--workdir={workdir}", *flags]


def command(workdir: pathlib.Path) -> list[str]:
    return [sys.executable, "-m", "experiments.train", *arguments(workdir)]
