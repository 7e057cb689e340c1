"""What the configurations of published models share: the game and the batch of arXiv 2604.09855.

Not a configuration of its own: `paper_30b.py`, `qwen3_4b.py`, `gemma3_1b.py` and `gemma3_27b.py` are made by it.
"""

from ml_collections import config_dict

from negot_jax.config import require_known, to_config_dict
from negot_jax.run import Config


def make(preset: str, method: str = "lora", experts: bool = False) -> config_dict.ConfigDict:
    """A run on a published model.

    Args:
      preset: its sizes, should there be no checkpoint.
      method: "lora" trains adapters, "full" all weights. The replications of the paper report 3e-5 without a KL term
        for adapters; fully trained at that rate, a dense 4B model lost the message form within an iteration, while 1e-6
        with a KL term of weight 0.01 held.
      experts: a mixture has adapters on attention alone: on each of its experts they would be many times as large.
    """
    require_known("the argument of the configuration", method, ("lora", "full"))
    config = to_config_dict(Config())
    config.catalog.name = "amazon_history_price"
    config.model.update(preset=preset, remat="full")
    config.mesh.update(data=1, fsdp=-1)  # No device holds a whole copy: what other axes leave cuts weights and rows.
    # Ours, as the paper's 4,000 tokens a message are for evaluation: 300 of 512 in training, prompts below 1,024.
    config.language.update(text_tokens=512, message_tokens=300)
    config.seller.update(model="base", message_tokens=300)
    config.warm_start.steps = 0
    config.learner.update(scenarios=64, group=8, micro_batches=8)
    config.algorithm.importance_cap = 2.0  # In bfloat16 the sampler is not quite the trainer.
    config.optimizer.update(warmup=0, schedule="constant")
    config.training.update(iterations=60, checkpoint_every=10)
    if method == "lora":
        config.model.lora.rank = 16
        if experts:
            config.model.lora.targets = ("query", "key", "value", "out")
        config.optimizer.learning_rate = 3e-5
    else:
        config.optimizer.learning_rate = 1e-6
        config.algorithm.update(kl="k3", kl_coefficient=0.01)
    return config
