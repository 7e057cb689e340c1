"""A buyer that learns to persuade: the quickstart's, against a seller that words move.

  python -m experiments.train --config=experiments/configs/persuasion.py --workdir=DIR

The warm start makes every kind of argument at random, so that none is taught as good; Talk is free text within the
message form, and reinforcement learning finds what pays. `persuasion.py:naive` starts from buyers that open near their
budget, and `persuasion.py:unmoved` meets the control, a seller that speaks the same way and is moved by no word.
Measured on two cores of an Intel Xeon, other work beside it, seeds 0, 1, 2: 16 to 28 minutes; held-out reward 0.273,
0.302, 0.222; pooled 0.265 [.216, .313] against 0.080 [.066, .095] of the best buyer without arguments.
docs/persuasion.md has more.
"""

from ml_collections import config_dict

from experiments.configs import quickstart


def get_config(start: str = "bold") -> config_dict.ConfigDict:
    if start not in ("bold", "naive", "unmoved"):
        raise ValueError(f"{start!r} is no way to start; write :bold, :naive, :unmoved after the file's name.")
    config = quickstart.get_config()
    config.game.seller = f"{'unmoved' if start == 'unmoved' else 'persuadable'}(tick=100)"
    config.language.update(vocab_size=640, message_tokens=30)
    shares = ((0.85, 1.0), (0.9, 0.95), (0.8, 0.95)) if start == "naive" else ((0.4, 0.9), (0.5, 0.8), (0.6, 0.9))
    config.warm_start.buyers = tuple(
        f"arguing(buyer=concession(beta={beta}, k={first}, end={last}, noise=0.1, tick=100), script=random)"
        for first, last in shares
        for beta in (0.5, 1.0)
    )
    config.training.update(iterations=120, checkpoint_every=20)
    # The best scripts of docs/persuasion.md.
    script = "budget defect urgency loyalty comparison threat"
    hinted = "budget/loyalty urgency/flattery hinted/urgency comparison hinted/comparison hinted/threat"
    config.evaluation.buyers = (
        "linear(start=0.5, end=0.95)",
        "concession",
        *(f"arguing(buyer=linear(start=0.5, end=0.95), script='{words}')" for words in ("random", script, hinted)),
    )
    return config
