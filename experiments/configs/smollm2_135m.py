"""SmolLM2-135M-Instruct on a CPU: a real language model learns to bargain.

  make pretrained
  python -m experiments.train --config=experiments/configs/smollm2_135m.py:scripted --workdir=DIR

The buyer trains adapters against a scripted seller with a persona. Without an argument, the seller is the same model
without adapters, told to play that persona, and its moves are regulated; training against it has not succeeded yet.
`smollm2_135m.py:full` is that with all weights trained.
Prices are dollars of the generated catalog; --config.catalog.name=amazon_history_price takes real products.

A budget of two cores and 12 GiB decides the sizes: short prompts, constrained messages barely longer than the form
needs, and four turns, so that 64 episodes fit into an iteration of some minutes. Every second iteration is saved, so
that the run may be stopped at any time. Measured with `:scripted`, seed 0, after 22 iterations: held-out reward 0.103
[.050, .158] against -0.368 [-.458, -.276] of the warm start; docs/language_model.md has more.
"""

from ml_collections import config_dict

from negot_jax.config import require_known, to_config_dict
from negot_jax.run import Config


def get_config(method: str = "lora") -> config_dict.ConfigDict:
    require_known("the argument of the configuration", method, ("lora", "scripted", "full"))
    config = to_config_dict(Config())
    config.game.update(turns=4, seller="insulting(tick=100)")
    config.model.checkpoint = "checkpoints/smollm2-135m"
    config.language.update(prompts="compact", text_tokens=0, message_tokens=40, decoding="constrained")
    if method != "scripted":
        config.seller.update(model="base", message_tokens=42, decoding="constrained")
    # It can write; what it has to learn is the form, and that offers rise from about half of the budget.
    config.warm_start.update(steps=192, episodes=8, micro_batches=2, widths=4)
    config.warm_start.optimizer.update(learning_rate=1e-3, schedule="cosine", warmup=4)
    config.warm_start.buyers = (
        "concession(beta=0.5, k=0.4, end=1.0, noise=0.1, tick=100)",
        "concession(beta=0.5, k=0.6, end=0.9, noise=0.1, tick=100)",
        "concession(beta=1.0, k=0.4, end=0.9, noise=0.1, tick=100)",
        "concession(beta=1.0, k=0.6, end=0.8, noise=0.1, tick=100)",
    )
    config.model.update(matmul="bfloat16", remat="full")
    config.learner.update(scenarios=8, group=8, minibatches=2, micro_batches=8, widths=4)  # Of four episodes: memory.
    config.optimizer.update(learning_rate=1e-4, warmup=2, schedule="constant")
    config.training.update(iterations=36, checkpoint_every=2)
    config.evaluation.update(episodes=2, batch=32)
    config.catalog.test = 48
    if method == "full":
        config.warm_start.optimizer.learning_rate = 1e-4
        config.optimizer.learning_rate = 1e-5
    else:
        config.model.lora.rank = 16
    return config
