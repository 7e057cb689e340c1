"""Buyers ten and a hundred times the quickstart's size that only imitate, to compare with what it learns by playing.

  python -m experiments.train --config=experiments/configs/imitation.py:10x --workdir=DIR

They clone the same scripted buyers, from as many dialogues, at learning rates that suit their size. A single iteration
at a learning rate of 0 follows, so that the run has a checkpoint and a report. `experiments.reproduce --table=scale`
sets them beside the quickstart's runs.
"""

from ml_collections import config_dict

from experiments.configs import quickstart
from negot_jax.config import require_known

# Of about 1.4 and 13.7 million parameters; the quickstart's has 136 thousand.
_SIZES = {
    "10x": {"layers": 4, "width": 160, "heads": 5, "kv_heads": 1, "mlp": 544},
    "100x": {"layers": 8, "width": 384, "heads": 12, "kv_heads": 4, "mlp": 1120},
}


def get_config(size: str = "10x") -> config_dict.ConfigDict:
    config = quickstart.get_config()
    config.model.update(_SIZES[require_known("the argument of the configuration", size, _SIZES)])
    config.warm_start.optimizer.learning_rate = 3e-3 if size == "10x" else 1e-3
    config.optimizer.update(learning_rate=0.0, schedule="constant")
    config.training.iterations = 1
    return config
