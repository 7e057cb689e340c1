"""A buyer and a seller that learn from each other, and from each other's past.

  python -m experiments.train --config=experiments/configs/self_play.py --workdir=DIR

Both begin as the quickstart's small model, cloned from scripted players of their side. The report has two parts: buyers
against the trained seller, and sellers against the trained buyer. Measured on a core of an AMD EPYC each: 16 minutes.
docs/self_play.md has the rest.
"""

from ml_collections import config_dict

from experiments.configs import quickstart


def get_config() -> config_dict.ConfigDict:
    config = quickstart.get_config()
    config.learner.role = "both"
    config.buyer.model = "own"
    config.seller.update(model="own", message_tokens=24, decoding="constrained")
    config.learner.update(scenarios=16, micro_batches=4)
    config.training.update(iterations=60, checkpoint_every=20)
    return config
