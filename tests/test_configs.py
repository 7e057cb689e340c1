"""The configurations that come with the project are valid runs, by every name that they take."""

import importlib
import pkgutil

import pytest

from experiments import configs
from experiments.configs import persuasion
from negot_jax.run.config import load

MODULES = sorted({module.name for module in pkgutil.iter_modules(configs.__path__)} - {"published"})
NAMES = [
    "imitation:100x",
    "persuasion:naive",
    "persuasion:quiet",
    "persuasion:unmoved",
    "quickstart:ppo",
    "qwen3_4b:full",
    "seller:model",
    "smollm2_135m:full",
    "smollm2_135m:scripted",
]


def made(name: str):
    module, *argument = name.split(":")
    return load(importlib.import_module(f"experiments.configs.{module}").get_config(*argument))


@pytest.mark.parametrize("name", MODULES + NAMES)
def test_every_configuration_is_a_run(name):
    assert made(name).training.iterations > 0


@pytest.mark.parametrize("start", ["bold", "naive", "quiet", "unmoved"])
def test_the_persuasive_buyer_meets_a_seller_that_hears(start):
    config = made(f"persuasion:{start}")
    assert config.game.hears and config.game.seller.startswith("unmoved" if start == "unmoved" else "persuadable")
    argue = sum("script=random" in buyer for buyer in config.warm_start.buyers)
    assert argue == (1 if start == "quiet" else len(config.warm_start.buyers))
    near = start in ("naive", "quiet")
    assert all(("k=0.8" in buyer or "k=0.9" in buyer) == near for buyer in config.warm_start.buyers)


def test_another_start_is_refused():
    with pytest.raises(ValueError, match="configuration 'shy' is unknown.*Known: bold, naive, quiet, unmoved"):
        persuasion.get_config("shy")
