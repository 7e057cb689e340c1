"""Teaching language models to bargain by reinforcement learning, as one compiled JAX program."""
