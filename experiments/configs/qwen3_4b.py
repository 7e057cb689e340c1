"""Qwen3-4B-Instruct-2507, buyer and frozen seller.

  python -m experiments.train --config=experiments/configs/qwen3_4b.py --config.model.checkpoint=FOLDER --workdir=DIR

`qwen3_4b.py:full` trains all weights, see `published`. Neither has been run at its size yet.
"""

import functools

from experiments.configs import published

get_config = functools.partial(published.make, "qwen3-4b-instruct-2507")
