"""Qwen3-4B-Instruct-2507, buyer and frozen seller.

  python -m experiments.train --config=experiments/configs/qwen3_4b.py --config.model.checkpoint=FOLDER \\
      --workdir=DIR

`qwen3_4b.py:full` trains all weights in place of adapters, at a lower rate and with a divergence. Neither has been
run at its size yet.
"""

from ml_collections import config_dict

from experiments.configs import published


def get_config(method: str = "lora") -> config_dict.ConfigDict:
    return published.make("qwen3-4b-instruct-2507", method)
