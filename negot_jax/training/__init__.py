"""Training: the loop and what keeps a run: checkpoints, metrics, its manifest."""
