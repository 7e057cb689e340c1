"""Qwen3-30B-A3B-Instruct-2507, the paper's model: buyer and frozen seller share it.

  python -m experiments.train --config=experiments/configs/paper_30b.py --config.model.checkpoint=FOLDER --workdir=DIR

`paper_30b.py:full` trains all weights, see `published`. Neither has been run at its size yet.

On a v5p-128, 64 chips, add --config.mesh.expert=16 (docs/pods.md): experts are cut in sixteen, rows in 64.
"""

import functools

from experiments.configs import published

get_config = functools.partial(published.make, "qwen3-30b-a3b-instruct-2507", experts=True)
