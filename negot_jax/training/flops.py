"""How much arithmetic an iteration is, by formula, and what share of the devices' peak it reaches.

Multiplications and additions of matrix products count, two a parameter and token; attention as if every token saw half
of the columns. What is computed again in a backward pass does not count (model FLOPs; Chowdhery et al. 2022, arXiv
2204.02311, appendix B).
"""

import jax

from negot_jax.models.presets import ModelConfig
from negot_jax.rl.learner import Learner

# Dense bfloat16 FLOP/s a device, as its maker publishes them, by JAX's name for the device.
PEAK = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def per_token(model: ModelConfig, columns: float, scored: float) -> float:
    """FLOPs of a forward pass, for each token.

    Args:
      columns: how many a token attends to, on average; local layers see no more than their window.
      scored: the share of tokens for which scores over the vocabulary are made.
    """
    attention = model.width * model.head_dim * (2 * model.heads + 2 * model.kv_heads)
    mlp = 3 * model.width * model.mlp * max(model.active_experts, 1) + model.width * model.experts
    whole = model.is_local.count(False)
    seen = whole * columns + (model.layers - whole) * min(columns, model.window or columns)
    matrices = model.layers * (attention + mlp) + scored * model.width * model.vocab_size
    return 2 * matrices + 4 * seen * model.heads * model.head_dim


def of_iteration(learner: Learner, tokens: float, sampled: float) -> float:
    """FLOPs of playing and learning from the buyer's contexts: so many tokens, of which it sampled so many.

    A token is read once as it is played, once for each score that is held fixed, and in every epoch three times, since
    a backward pass counts twice; once less where the matrices themselves are not trained. What a seller reads is left
    out.
    """
    algorithm, config = learner.algorithm, learner.config
    forward = 1 + algorithm.rescores + (algorithm.kl != "none")
    training = (2 if learner.model.lora.rank else 3) * config.epochs
    columns = tokens / (config.scenarios * config.group)
    return tokens * (forward + training) * per_token(learner.model, columns / 2, sampled / tokens)


def speed(learner: Learner, tokens: float, sampled: float, seconds: float) -> dict[str, float]:
    """Metrics of an iteration: tokens of the buyer's contexts a second, and the share of the peak, if that is known."""
    found = {"perf/tokens_per_second": float(tokens) / seconds}
    if peak := PEAK.get(jax.devices()[0].device_kind):
        found["perf/mfu"] = of_iteration(learner, float(tokens), sampled) / (seconds * peak * jax.device_count())
    return found
