"""A buyer trained from nothing in minutes on a laptop's CPU.

  python -m experiments.train --config=experiments/configs/quickstart.py --workdir=DIR

Measured on two cores of a shared machine without an accelerator, seeds 0, 1, 2: about 6 minutes, 2.1 GiB. Held-out
reward 0.346, 0.359, 0.353; pooled 0.353 [.309, .392] against 0.256 [.212, .294] of the warm start, 0.318 of the
concession tactic and 0.291 of the tuned linear schedule. With PPO (quickstart.py:ppo) 0.348, 0.351, 0.340; pooled 0.346
[.301, .388].

Two simplifications for so small a model, named in its table: prices in percent of the list price, and decoding
constrained to the message form.
"""

from ml_collections import config_dict

from experiments import setup
from negot_jax.config import to_config_dict
from negot_jax.rl.algorithms import preset


def get_config(algorithm: str = "grpo") -> config_dict.ConfigDict:
    config = to_config_dict(setup.Config())
    config.algorithm = to_config_dict(preset(algorithm))
    config.catalog.prices = "normalized"
    config.game.seller = "neutral(tick=100)"
    config.language.update(vocab_size=576, prompts="compact", text_tokens=8, message_tokens=24, decoding="constrained")
    config.warm_start.update(steps=800, episodes=32, micro_batches=2)
    config.warm_start.optimizer.update(learning_rate=1e-2, schedule="cosine")
    # Noise makes every price near a schedule's worth a try; which are best is for reinforcement learning to find.
    config.warm_start.buyers = (
        "concession(beta=0.25, k=0.4, end=0.9, noise=0.1, tick=100)",
        "concession(beta=0.25, k=0.5, end=0.8, noise=0.1, tick=100)",
        "concession(beta=0.5, k=0.4, end=1.0, noise=0.1, tick=100)",
        "concession(beta=0.5, k=0.6, end=0.9, noise=0.1, tick=100)",
        "concession(beta=1.0, k=0.4, end=0.9, noise=0.1, tick=100)",
        "concession(beta=1.0, k=0.6, end=0.8, noise=0.1, tick=100)",
    )
    config.learner.update(scenarios=24, group=8, minibatches=2, micro_batches=6)
    config.optimizer.update(learning_rate=1e-3, schedule="linear", beta2=0.99)
    config.training.update(iterations=60, checkpoint_every=20)
    return config
