"""The quickstart's buyer against a frozen language model, which the warm start has taught to sell.

python -m experiments.train --config=experiments/configs/quickstart_lm_seller.py --workdir=DIR

Measured in an earlier version with 60 iterations, on two cores of a shared machine without an accelerator, one run
(seed 0), other work beside it: 17 minutes with its report, of which training takes 3:33 and the two warm starts most of
the rest; 2.4 GiB. Held-out reward 0.354 [.321, .387] against 0.221 [.194, .248] of the warm start and 0.276 [.245,
.307] of the linear schedule tuned against this seller, of whose moves 0.46 an episode were illegal and replaced.
"""

from ml_collections import config_dict

from experiments.configs import quickstart


def get_config(algorithm: str = "grpo") -> config_dict.ConfigDict:
    config = quickstart.get_config(algorithm)
    config.seller.update(model="own", message_tokens=24, decoding="constrained")
    return config
