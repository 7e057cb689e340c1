"""Qwen3-30B-A3B-Instruct-2507, the paper's model: buyer and frozen seller share it.

  python -m experiments.train --config=experiments/configs/paper_30b.py --config.model.checkpoint=FOLDER \\
      --workdir=DIR

On a v5p-128, 64 chips, add --config.mesh.expert=16 (docs/pods.md): experts are cut in sixteen, rows in 64.

`paper_30b.py:full` trains all weights in place of adapters, at a lower rate and with a divergence. Neither has been
run at its size yet.
"""

from ml_collections import config_dict

from experiments.configs import published


def get_config(method: str = "lora") -> config_dict.ConfigDict:
    return published.make("qwen3-30b-a3b-instruct-2507", method, experts=True)
