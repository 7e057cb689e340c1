"""The quickstart's buyer, cloned and trained for longer.

python -m experiments.train --config=experiments/configs/long.py --workdir=DIR
"""

from ml_collections import config_dict

from experiments.configs import quickstart


def get_config(algorithm: str = "grpo") -> config_dict.ConfigDict:
    config = quickstart.get_config(algorithm)
    config.warm_start.steps = 1500
    config.learner.update(scenarios=32, minibatches=2, micro_batches=8)
    config.training.update(iterations=160, checkpoint_every=20, keep=8)
    return config
