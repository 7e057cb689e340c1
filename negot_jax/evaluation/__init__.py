"""Evaluation: players on common random numbers, estimates with intervals, tables, figures and transcripts."""

import os

from negot_jax import cache

# Matplotlib's own choice may be a folder below the working directory, or one that cannot be written.
os.environ.setdefault("MPLCONFIGDIR", str(cache.folder("matplotlib")))
