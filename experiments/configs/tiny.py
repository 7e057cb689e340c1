"""The quickstart in seconds: too small to learn anything, and enough to see that everything runs.

python -m experiments.train --config=experiments/configs/tiny.py --workdir=DIR
"""

from ml_collections import config_dict

from experiments.configs import quickstart


def get_config() -> config_dict.ConfigDict:
    config = quickstart.get_config()
    config.catalog.test = 8
    config.game.turns = 2
    config.language.update(vocab_size=512, text_tokens=2, message_tokens=32)
    config.model.update(layers=1, width=16, heads=1, head_dim=16, mlp=32)
    config.warm_start.update(steps=3, episodes=16, micro_batches=1)
    config.learner.update(scenarios=4, group=2, micro_batches=1)
    config.optimizer.schedule = "constant"  # So that more iterations go on from fewer.
    config.training.update(iterations=8, checkpoint_every=2)
    config.evaluation.update(episodes=2, batch=16, transcripts=2, tuning_draws=1, best_response=False)
    config.evaluation.buyers = ("linear",)
    return config
