"""Language models: configurations, one forward pass for training, prefill and decode, and sampling."""
