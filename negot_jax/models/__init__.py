"""Language models: configurations, one forward pass for training, prefill and decode, adapters, published checkpoints,
and sampling.
"""
