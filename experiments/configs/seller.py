"""A seller that learns: the quickstart's small model on the other side of the table.

  python -m experiments.train --config=experiments/configs/seller.py --workdir=DIR

It is paid the seller's share of the surplus and meets scripted buyers, one of them for each scenario. `seller.py:model`
meets a frozen language model instead, which the warm start has taught to buy. Held-out reward 0.520 [.471, .568], seed
0, against 0.337 of the default scripted seller: docs/self_play.md.
"""

from ml_collections import config_dict

from experiments.configs import quickstart
from negot_jax.config import require_known


def get_config(buyer: str = "scripted") -> config_dict.ConfigDict:
    require_known("the argument of the configuration", buyer, ("scripted", "model"))
    config = quickstart.get_config()
    config.learner.role = "seller"
    config.seller.update(model="own", message_tokens=24, decoding="constrained")
    config.buyer.policies = (
        "concession(beta=0.5, k=0.4, end=0.9, noise=0.1, tick=100)",
        "linear(start=0.4, end=0.9, tick=100)",
        "tit_for_tat(noise=0.05, tick=100)",
    )
    config.training.iterations = 160
    if buyer == "model":
        config.buyer.model = "own"
    return config
