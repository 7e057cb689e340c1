"""Configuration of the game, the language, the opponent, the optimizer and an iteration."""

import dataclasses
import functools
import math
from typing import Literal

import optax

from negot_jax.config import field, require, require_known, require_least
from negot_jax.game import buyers, sellers, specs
from negot_jax.game.personas import Persona
from negot_jax.game.rewards import REWARDS
from negot_jax.game.types import MAX_TURNS
from negot_jax.models.sampling import SamplingConfig

Decoding = Literal["free", "constrained"]
_DECODING = "'constrained' masks every token that would break the message form"


@dataclasses.dataclass(frozen=True)
class GameConfig:
    """The rules and the scripted seller."""

    turns: int = field(6, "turn limit; a turn is one buyer message and one seller message")
    regulation: Literal["repair", "end", "none"] = field(
        "repair",
        "an illegal seller move is replaced by a legal counter-offer, or ends the game; none: a malformed one loses "
        "the turn, and a sale below cost stands",
    )
    seller: str = field(
        "neutral",
        "a scripted seller, with fields to change: neutral or neutral(noise=0.05, tick=100). If a language model sells "
        "(seller.model), this one plays in the dialogues of the warm start, and the model takes its persona",
    )
    reward: str = field("paper", f"the buyer's reward for an episode; the seller's mirrors it: {', '.join(REWARDS)}")

    def __post_init__(self):
        require("game", self, "turns", lambda turns: 1 <= turns <= MAX_TURNS, f"must be from 1 to {MAX_TURNS}.")
        require_known("game.reward", self.reward, REWARDS)
        specs.require_named("game.seller", sellers.make, self.seller)

    @property
    def persona(self) -> Persona:
        """The seller's."""
        return sellers.make(self.seller).persona

    @property
    def hears(self) -> bool:
        """Whether words move the seller."""
        return sellers.make(self.seller).hears


@dataclasses.dataclass(frozen=True)
class LanguageConfig:
    """Prompts, messages and how the buyer decodes."""

    vocab_size: int = field(1024, "size of the SentencePiece tokenizer that is trained for a model without one")
    prompts: Literal["full", "compact"] = field("full", "'full' states the rules in the prompt, 'compact' does not")
    text_tokens: int = field(256, "cap on the tokens of a product's title, description and features")
    message_tokens: int = field(64, "cap of a buyer's message")
    decoding: Decoding = field("free", _DECODING)
    force_deal_price: bool = field(True, "constrained decoding copies the standing offer into a DEAL")

    def __post_init__(self):
        require("language", self, "text_tokens", lambda n: n >= 0, "is negative. Use 0 (rules only) or more.")


@dataclasses.dataclass(frozen=True)
class BuyerConfig:
    """Who buys where the seller learns: scripted buyers, or a frozen language model."""

    model: Literal["scripted", "base", "own"] = field(
        "scripted",
        "'base': the seller's model before training, shared; 'own': another one, see buyer.checkpoint, or the "
        "learning buyer itself where both sides learn",
    )
    policies: tuple[str, ...] = field(
        ("concession", "linear(start=0.5, end=1.0)", "tit_for_tat"),
        "the scripted buyers, one of them for each scenario",
    )
    checkpoint: str | None = field(None, "folder of the buyer's own checkpoint or run; else the warm start trains one")
    sampling: SamplingConfig = field(SamplingConfig(temperature=0.7), "how a frozen language model samples")

    def __post_init__(self):
        _require_own("buyer", self)
        if not self.policies:
            raise ValueError("buyer.policies is empty: name a scripted buyer.")
        for spec in self.policies:
            specs.require_named("buyer.policies", buyers.make, spec)


@dataclasses.dataclass(frozen=True)
class SellerConfig:
    """The seller: the scripted one of `game.seller`, or a language model."""

    model: Literal["scripted", "base", "own"] = field(
        "scripted",
        "'base': the buyer's model before training, shared; 'own': another one, see seller.checkpoint; where the "
        "seller learns, the one that does",
    )
    checkpoint: str | None = field(
        None,
        "folder of the seller's own checkpoint, with the buyer's tokenizer, or of a run whose seller is a language "
        "model; without it the warm start trains one",
    )
    message_tokens: int = field(64, "cap of a language model's message")
    decoding: Decoding = field("free", _DECODING)
    sampling: SamplingConfig = field(SamplingConfig(temperature=0.7), "how a language model samples")

    def __post_init__(self):
        _require_own("seller", self)


def _require_own(side: str, config: BuyerConfig | SellerConfig) -> None:
    if config.checkpoint and config.model != "own":
        raise ValueError(
            f"{side}.checkpoint={config.checkpoint!r} is not read with {side}.model={config.model!r}. Set "
            f"{side}.model='own', or leave the checkpoint out."
        )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with gradient clipping and a learning-rate schedule."""

    learning_rate: float = field(1e-3, "peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = field("constant", "decay to zero after the warmup")
    warmup: int = field(10, "updates of linear warmup from zero")
    weight_decay: float = field(0.0, "decoupled weight decay")
    beta1: float = field(0.9, "decay of the first moment")
    beta2: float = field(0.95, "decay of the second moment")
    max_grad_norm: float = field(1.0, "clip the global gradient norm to this")

    def __post_init__(self):
        check = functools.partial(require, "optimizer", self)
        check("learning_rate warmup weight_decay", lambda value: 0 <= value < math.inf, "must be 0 or more.")
        check("beta1 beta2", lambda value: 0 <= value < 1, "must be in [0, 1).")
        check("max_grad_norm", lambda value: value > 0, "must be above 0.")

    def rate(self, updates: int) -> optax.Schedule:
        """The learning rate by the number of updates made, in a run of `updates`."""
        rest = max(updates - self.warmup, 1)
        decay = {
            "constant": optax.constant_schedule(self.learning_rate),
            "linear": optax.linear_schedule(self.learning_rate, 0.0, rest),
            "cosine": optax.cosine_decay_schedule(self.learning_rate, rest),
        }[self.schedule]
        rise = optax.linear_schedule(0.0, self.learning_rate, self.warmup)
        return optax.join_schedules([rise, decay], [self.warmup]) if self.warmup else decay

    def make(self, updates: int) -> optax.GradientTransformation:
        """The optimizer for a run of `updates` updates."""
        adamw = optax.adamw(self.rate(updates), b1=self.beta1, b2=self.beta2, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), adamw)


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    """One iteration: who learns, how much is played, and how it is batched for the updates."""

    role: Literal["buyer", "seller", "both"] = field("buyer", "the side that learns; 'both': self-play, see self_play")
    scenarios: int = field(64, "scenarios per iteration")
    group: int = field(8, "episodes per scenario")
    epochs: int = field(1, "passes over an iteration's episodes")
    minibatches: int = field(1, "updates per pass")
    micro_batches: int = field(1, "gradient accumulation steps per minibatch")
    widths: int = field(1, "lengths that the update is compiled for, so that short micro-batches run at a shorter one")

    def __post_init__(self):
        require_least("learner", self, 1, "scenarios group epochs minibatches micro_batches widths")
        episodes, parts = self.scenarios * self.group, self.minibatches * self.micro_batches
        if episodes % parts:
            raise ValueError(
                f"learner.scenarios x learner.group = {episodes} episodes do not divide evenly into "
                f"learner.minibatches x learner.micro_batches = {parts} parts. Change one of them."
            )

    def rows(self) -> dict[str, int]:
        """Batch sizes that the mesh must divide, see `sharding.require_fit`."""
        part = self.scenarios * self.group // (self.minibatches * self.micro_batches)
        name = "learner.scenarios x group / (minibatches x micro_batches)"
        return {"learner.scenarios": self.scenarios, name: part}
