"""A buyer trained from nothing in minutes on a laptop's CPU.

  python -m experiments.train --config=experiments/configs/quickstart.py --workdir=DIR

Measured on two cores of a shared machine without an accelerator, seeds 0, 1, 2: about 9 minutes (8:54, 9:12), 2.0 GiB.
Held-out reward 0.331, 0.311, 0.257; pooled 0.300 [.244, .350] against 0.112 [.045, .176] of the warm start, 0.252 and
0.232 of the linear schedules, 0.318 of the concession tactic and 0.291 of the tuned schedule.

Two simplifications for so small a model, named in its table: prices in percent of the list price, and decoding
constrained to the message form.
"""

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
