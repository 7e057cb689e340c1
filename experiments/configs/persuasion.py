"""A buyer that learns to persuade: the quickstart's, against a seller that words move.

  python -m experiments.train --config=experiments/configs/persuasion.py --workdir=DIR

The warm start makes every kind of argument at random, so that none is taught as good; Talk is free text within the
message form, and reinforcement learning finds what pays. `persuasion.py:naive` starts from buyers that open near their
budget, `:quiet` from the same buyers of whom only one in six argues, and `:unmoved` meets the control, a seller that
speaks the same way and is moved by no word.
Measured on a core of an AMD EPYC each, other work beside it, seeds 0, 1, 2: 14 to 18 minutes; held-out reward 0.320,
0.366, 0.231; pooled 0.306 [.232, .370] against 0.080 [.066, .095] of the best buyer without arguments.
docs/persuasion.md has more.
"""

from ml_collections import config_dict

from experiments.configs import quickstart
from negot_jax.config import require_known


def get_config(start: str = "bold") -> config_dict.ConfigDict:
    require_known("the argument of the configuration", start, ("bold", "naive", "quiet", "unmoved"))
    config = quickstart.get_config()
    config.game.seller = f"{'unmoved' if start == 'unmoved' else 'persuadable'}(tick=100)"
    config.language.update(vocab_size=640, message_tokens=30)
    bold = ((0.4, 0.9), (0.5, 0.8), (0.6, 0.9))
    shares = ((0.85, 1.0), (0.9, 0.95), (0.8, 0.95)) if start in ("naive", "quiet") else bold
    prices = [
        f"concession(beta={beta}, k={first}, end={last}, noise=0.1, tick=100)"
        for first, last in shares
        for beta in (0.5, 1.0)
    ]
    scripts = ["random"] + ["nothing" if start == "quiet" else "random"] * (len(prices) - 1)
    config.warm_start.buyers = tuple(
        f"arguing(buyer={buyer}, script={script})" for buyer, script in zip(prices, scripts, strict=True)
    )
    config.training.update(iterations=300, checkpoint_every=50)
    # The best that `experiments.persuasion` finds: without arguments, by a script, and by the seller's hints.
    script = "budget defect urgency loyalty comparison threat"
    hinted = "budget/loyalty urgency/flattery hinted/urgency comparison hinted/comparison hinted/threat"
    config.evaluation.buyers = (
        "ladder(shares=(0.5, 0.85, 0.7, 0.325, 0.7, 0.975))",
        f"arguing(buyer=ladder(shares=(0.575, 0.45, 0.45, 0.35, 0.575, 0.95)), script='{script}')",
        f"arguing(buyer=ladder(shares=(0.575, 0.45, 0.45, 0.425, 0.575, 0.95)), script='{hinted}')",
    )
    return config
