"""Gemma 3 1B, instruction-tuned, buyer and frozen seller.

  python -m experiments.train --config=experiments/configs/gemma3_1b.py --config.model.checkpoint=FOLDER \\
      --workdir=DIR

`gemma3_1b.py:full` trains all weights in place of adapters, at a lower rate and with a divergence. Neither has been
run at its size yet.
"""

from ml_collections import config_dict

from experiments.configs import published


def get_config(method: str = "lora") -> config_dict.ConfigDict:
    return published.make("gemma3-1b", method)
