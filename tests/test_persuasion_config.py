"""The configuration of persuasion: every start is a valid run against a seller that hears."""

import pytest

from experiments.configs import persuasion
from negot_jax.run.config import load


@pytest.mark.parametrize("start", ["bold", "naive", "unmoved"])
def test_every_start_is_a_run(start):
    config = load(persuasion.get_config(start))
    assert config.game.hears and config.game.seller.startswith("unmoved" if start == "unmoved" else "persuadable")
    assert all("script=random" in buyer for buyer in config.warm_start.buyers)
    assert all(("k=0.8" in buyer or "k=0.9" in buyer) == (start == "naive") for buyer in config.warm_start.buyers)


def test_another_start_is_refused():
    with pytest.raises(ValueError, match="'shy' is no way to start; write :bold, :naive, :unmoved"):
        persuasion.get_config("shy")
