"""The configuration of the objective, and published algorithms as settings of it; docs/algorithms.md names papers."""

import dataclasses
import functools
import math

from negot_jax.config import field, nearest, require, require_known
from negot_jax.rl.advantages import ADVANTAGES, SCALES
from negot_jax.rl.losses import AGGREGATIONS, CORRECTIONS, KL_LOSSES, RATIOS, SURROGATES

_KL = ("none", "k1", *KL_LOSSES)
_TABLES = {"advantage": ADVANTAGES, "scale": SCALES, "ratio": RATIOS, "surrogate": SURROGATES}
_TABLES |= {"aggregation": AGGREGATIONS, "kl": _KL, "importance": CORRECTIONS}
_CRITIC = ("gamma", "gae_lambda", "value_coefficient", "value_clip")  # Read only with a critic.
# What does not go with a critic, and why.
_GROUP = {
    "scale": ("group", "tokens of an episode differ in advantage, so a group has no single deviation; use 'batch'"),
    "ratio": ("sequence", "one ratio per episode needs one advantage per episode; use 'token'"),
    "mask_equal_groups": (True, "a critic learns from groups of equal rewards too; leave it out"),
}


def _one_of(table) -> str:
    return "one of " + ", ".join(table)


@dataclasses.dataclass(frozen=True)
class AlgorithmConfig:
    """The objective. The default is GRPO without normalization by the deviation, length weights or a KL term."""

    advantage: str = field("group", f"baseline, the group's mean (GRPO) or a critic (PPO): {_one_of(ADVANTAGES)}")
    scale: str = field("none", f"what advantages are normalized over: {_one_of(SCALES)}")
    ratio: str = field("token", f"unit of the clipped probability ratio: {_one_of(RATIOS)} (GSPO)")
    surrogate: str = field("clip", f"what a ratio outside the clip range does: {_one_of(SURROGATES)}")
    clip: tuple[float, ...] = field((0.2, 0.2), "clip range of the ratio below and above 1")
    aggregation: str = field("token", f"the loss averages over tokens, episodes or slots: {_one_of(AGGREGATIONS)}")
    mask_equal_groups: bool = field(False, "drop groups whose episodes all earned the same")
    entropy: float = field(0.0, "weight of an entropy bonus")
    kl: str = field("none", f"KL from the warm start: {_one_of(_KL)} (k1 as a reward, k2 and k3 as a loss)")
    kl_coefficient: float = field(0.0, "weight of the KL term")
    importance: str = field("truncate", f"what trainer/sampler ratios past the cap become: {_one_of(CORRECTIONS)}")
    importance_cap: float = field(0.0, "cap on trainer/sampler importance weights; 0: no correction")
    gamma: float = field(1.0, "discount from one of the learner's tokens to the next (gae)")
    gae_lambda: float = field(1.0, "lambda of generalized advantage estimation (gae)")
    value_coefficient: float = field(0.05, "weight of the critic's loss; the trunk is shared (gae)")
    value_clip: float = field(0.2, "clip range of a value around its old one (gae)")

    def __post_init__(self):
        for name, table in _TABLES.items():
            if (value := getattr(self, name)) not in table:
                near = nearest(value, table)
                raise ValueError(f"algorithm.{name}={value!r} is not {_one_of(table)}. Did you mean {near!r}?")
        if len(self.clip) != 2 or not (0 < self.clip[0] <= 1 and 0 < self.clip[1] < math.inf):
            raise ValueError(f"algorithm.clip={self.clip}: two positive numbers, the first at most 1.")
        check, off = functools.partial(require, "algorithm", self), "must be 0 (off) or a positive number."
        check("entropy kl_coefficient value_coefficient", lambda value: 0 <= value < math.inf, off)
        check("importance_cap", lambda cap: cap == 0 or 1 <= cap < math.inf, "must be 0 (off), or 1 or more.")
        check("gamma gae_lambda", lambda value: 0 <= value <= 1, "is not in [0, 1].")
        check("value_clip", lambda value: value > 0, "must be above 0.")
        if (self.kl == "none") != (self.kl_coefficient == 0):
            raise ValueError(
                f"algorithm.kl={self.kl!r} with algorithm.kl_coefficient={self.kl_coefficient} does nothing. "
                "Set both, or leave both out."
            )
        if self.importance != "truncate" and not self.importance_cap:
            raise ValueError(f"algorithm.importance={self.importance!r} does nothing without algorithm.importance_cap.")
        for name, (value, reason) in _GROUP.items():
            if self.critic and getattr(self, name) == value:
                raise ValueError(f"algorithm.{name}={value!r} does not go with algorithm.advantage='gae': {reason}.")
        for item in dataclasses.fields(self):
            if not self.critic and item.name in _CRITIC and getattr(self, item.name) != item.default:
                raise ValueError(
                    f"algorithm.{item.name}={getattr(self, item.name)} is read only with algorithm.advantage='gae'. "
                    f"Leave it at {item.default}, or set that."
                )

    @property
    def critic(self) -> bool:
        return self.advantage == "gae"

    @property
    def rescores(self) -> bool:
        """Whether the trainer recomputes log-probs before the first update, instead of using the sampler's."""
        return self.critic or self.importance_cap > 0


PRESETS = {
    "grpo": AlgorithmConfig(),
    "grpo_2024": AlgorithmConfig(scale="group", aggregation="episode", kl="k3", kl_coefficient=0.04),
    "dr_grpo": AlgorithmConfig(aggregation="constant"),
    "dapo": AlgorithmConfig(scale="group", clip=(0.2, 0.28), mask_equal_groups=True),
    "cispo": AlgorithmConfig(scale="group", surrogate="cispo", clip=(1.0, 4.0)),
    "gspo": AlgorithmConfig(scale="group", ratio="sequence", clip=(3e-4, 4e-4), aggregation="episode"),
    "ppo": AlgorithmConfig(advantage="gae", scale="batch"),
}


def preset(name: str) -> AlgorithmConfig:
    """A published algorithm's settings by name. Raises ValueError for an unknown one."""
    return PRESETS[require_known("algorithm", name, PRESETS)]
