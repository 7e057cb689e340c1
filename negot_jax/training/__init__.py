"""Training: warm start, the loop, checkpoints, metrics, and what stops or survives a run."""
