"""A buyer trained from nothing in minutes on a laptop's CPU."""

from ml_collections import config_dict

from experiments import setup
from negot_jax.config import to_config_dict
from negot_jax.models.presets import preset


def get_config() -> config_dict.ConfigDict:
    config = to_config_dict(setup.Config())
    config.catalog.prices = "normalised"
    config.game.seller = "neutral(tick=100)"
    config.language.update(vocab_size=576, prompts="compact", text_tokens=8, message_tokens=24, decoding="constrained")
    config.model = to_config_dict(preset("tiny"))
    config.warm_start.update(steps=120, episodes=128, micro_batches=8)
    config.warm_start.buyers = (
        "linear(start=0.4, end=1.0, tick=100)",
        "linear(start=0.5, end=1.0, tick=100)",
        "concession(tick=100)",
        "tit_for_tat(tick=100)",
    )
    config.learner.update(scenarios=24, group=8, micro_batches=12)
    config.training.update(iterations=160, checkpoint_every=40)
    return config
