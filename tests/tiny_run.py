"""A run that takes seconds, as a configuration and as a command line, for tests of the whole."""

from collections.abc import Mapping
import pathlib
import sys
from typing import Any

from experiments.configs import tiny
from negot_jax.config import replace
from negot_jax.run.config import Config, override

ROOT = pathlib.Path(__file__).parents[1]
ITERATIONS = 8
_CHANGES = {"evaluation.buyers": ()}  # Nothing is compiled for a scripted buyer.


def config(**overrides) -> Config:
    """The configuration. overrides: dotted fields, with `__` for the dot."""
    return overridden({name.replace("__", "."): value for name, value in overrides.items()})


def overridden(values: Mapping[str, Any]) -> Config:
    """The configuration with fields set by dotted name."""
    return override(replace(Config(), tiny.get_config()), {**_CHANGES, **values})


def arguments(workdir: pathlib.Path) -> list[str]:
    """The arguments of experiments.train that make the same run in a folder."""
    changes = [f"--config.{name}={value}" for name, value in _CHANGES.items()]
    return [f"--config={ROOT / 'experiments/configs/tiny.py'}", f"--workdir={workdir}", *changes]


def command(workdir: pathlib.Path) -> list[str]:
    return [sys.executable, "-m", "experiments.train", *arguments(workdir)]
