"""Gemma 3 27B, instruction-tuned, buyer and frozen seller.

  python -m experiments.train --config=experiments/configs/gemma3_27b.py --config.model.checkpoint=FOLDER --workdir=DIR

`gemma3_27b.py:full` trains all weights, see `published`. Neither has been run at its size yet.
"""

import functools

from experiments.configs import published

get_config = functools.partial(published.make, "gemma3-27b")
