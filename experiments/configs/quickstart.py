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
    config.warm_start.update(steps=400, episodes=32, micro_batches=2)
    config.warm_start.optimizer.update(learning_rate=1e-2, schedule="cosine")
    config.warm_start.buyers = (
        "concession(beta=0.25, k=0.3, tick=100)",
        "concession(beta=0.25, k=0.5, tick=100)",
        "concession(beta=0.5, k=0.4, tick=100)",
        "concession(beta=0.5, k=0.6, tick=100)",
        "linear(start=0.4, end=1.0, tick=100)",
        "linear(start=0.6, end=0.8, tick=100)",
        "concession(beta=2.0, k=0.4, tick=100)",
        "tit_for_tat(tick=100)",
    )
    config.learner.update(scenarios=24, group=8, minibatches=2, micro_batches=6)
    config.optimizer.update(learning_rate=1e-3, schedule="linear", beta2=0.99)
    config.training.update(iterations=100, checkpoint_every=25)
    return config
