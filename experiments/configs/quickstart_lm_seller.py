"""The quickstart's buyer against a frozen language model, which the warm start has taught to sell.

python -m experiments.train --config=experiments/configs/quickstart_lm_seller.py --workdir=DIR
"""

from ml_collections import config_dict

from experiments.configs import quickstart


def get_config(algorithm: str = "grpo") -> config_dict.ConfigDict:
    config = quickstart.get_config(algorithm)
    config.seller.update(model="own", message_tokens=24, decoding="constrained")
    return config
