"""Language models: configuration, forward pass, adapters, published checkpoints, sampling and sharding."""
