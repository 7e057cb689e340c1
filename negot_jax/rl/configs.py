"""Configuration of the game, the language, the opponent, the optimizer and an iteration."""

import dataclasses
import math
from typing import Literal

import optax

from negot_jax.config import field
from negot_jax.game import sellers
from negot_jax.language import prompts
from negot_jax.models.sampling import SamplingConfig

Decoding = Literal["free", "constrained"]
_DECODING = "'constrained' masks every token that would break the message form"


@dataclasses.dataclass(frozen=True)
class GameConfig:
    """The rules and the seller."""

    turns: int = field(6, "turn limit; a turn is one buyer message and one seller message")
    regulation: Literal["repair", "end", "none"] = field(
        "repair", "an illegal seller move is replaced by a legal counter-offer, ends the game, or (none) loses the turn"
    )
    seller: str = field(
        "neutral",
        "a scripted seller, with fields to change: neutral or neutral(noise=0.05, tick=100). Where a language model "
        "sells (seller.model), this is who the dialogues of the warm start are with, and the name is its persona",
    )

    def __post_init__(self):
        if self.turns < 1:
            raise ValueError(f"game.turns={self.turns} must be at least 1.")
        sellers.make(self.seller)

    @property
    def persona(self) -> str:
        """How the seller behaves: its name if that is a persona's, else neutral."""
        name = self.seller.split("(")[0].strip()
        return name if name in prompts.PERSONAS else "neutral"


@dataclasses.dataclass(frozen=True)
class LanguageConfig:
    """Prompts, messages and how the buyer may write."""

    vocab_size: int = field(1024, "tokens of the SentencePiece model that is trained where the model brings none")
    prompts: Literal["full", "compact"] = field("full", "'full' states the rules in the prompt, 'compact' does not")
    text_tokens: int = field(256, "tokens kept of a product's title, description and features")
    message_tokens: int = field(64, "cap of a buyer's message")
    decoding: Decoding = field("free", _DECODING)
    force_deal_price: bool = field(True, "constrained decoding writes a DEAL's price, which must be the standing offer")

    def __post_init__(self):
        if self.text_tokens < 0:
            raise ValueError(f"language.text_tokens={self.text_tokens} is negative. Use 0 (rules only) or more.")


@dataclasses.dataclass(frozen=True)
class SellerConfig:
    """Who sells: the scripted seller of `game.seller`, or a frozen language model in its place."""

    model: Literal["scripted", "base", "own"] = field(
        "scripted", "'base': the buyer's model as it came, shared with it; 'own': another one, see seller.checkpoint"
    )
    checkpoint: str | None = field(
        None, "folder of the seller's own checkpoint, of the buyer's tokenizer; without it the warm start makes one"
    )
    message_tokens: int = field(64, "cap of a language model's message")
    decoding: Decoding = field("free", _DECODING)
    sampling: SamplingConfig = field(SamplingConfig(temperature=0.7), "how a language model draws its tokens")

    def __post_init__(self):
        if self.checkpoint and self.model != "own":
            raise ValueError(
                f"seller.checkpoint={self.checkpoint!r} is read by seller.model='own' alone, but that is "
                f"{self.model!r}. Set seller.model='own', or leave the checkpoint out."
            )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a clipped gradient and a schedule."""

    learning_rate: float = field(1e-3, "peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = field("constant", "decay to zero over the run, after warm-up")
    warmup: int = field(10, "updates over which the learning rate rises linearly from zero")
    weight_decay: float = field(0.0, "decoupled weight decay")
    beta1: float = field(0.9, "decay of the first moment")
    beta2: float = field(0.95, "decay of the second moment")
    max_grad_norm: float = field(1.0, "the gradient is scaled down to this norm")

    def __post_init__(self):
        # What holds is asked, not what does not: nan fails every comparison.
        for name in ("learning_rate", "warmup", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"optimizer.{name}={getattr(self, name)} must be 0 or more.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"optimizer.{name}={getattr(self, name)} must be in [0, 1).")
        if not self.max_grad_norm > 0:
            raise ValueError(f"optimizer.max_grad_norm={self.max_grad_norm} must be above 0.")

    def make(self, updates: int) -> optax.GradientTransformation:
        """The optimizer of a run of so many updates."""
        rest = max(updates - self.warmup, 1)
        decay = {
            "constant": optax.constant_schedule(self.learning_rate),
            "linear": optax.linear_schedule(self.learning_rate, 0.0, rest),
            "cosine": optax.cosine_decay_schedule(self.learning_rate, rest),
        }[self.schedule]
        rise = optax.linear_schedule(0.0, self.learning_rate, self.warmup)
        rate = optax.join_schedules([rise, decay], [self.warmup]) if self.warmup else decay
        return optax.chain(
            optax.clip_by_global_norm(self.max_grad_norm),
            optax.adamw(rate, b1=self.beta1, b2=self.beta2, weight_decay=self.weight_decay),
        )


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    """One iteration: how much is played, and in what parts it is learned from."""

    role: Literal["buyer", "seller"] = field("buyer", "the side that learns")
    scenarios: int = field(64, "scenarios an iteration")
    group: int = field(8, "episodes of each scenario")
    epochs: int = field(1, "passes over an iteration's episodes")
    minibatches: int = field(1, "updates a pass")
    micro_batches: int = field(1, "parts of a minibatch whose gradients are added up, to save memory")

    def __post_init__(self):
        for name in ("scenarios", "group", "epochs", "minibatches", "micro_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"learner.{name}={getattr(self, name)} must be at least 1.")
        episodes, parts = self.scenarios * self.group, self.minibatches * self.micro_batches
        if episodes % parts:
            raise ValueError(
                f"learner.scenarios x learner.group = {episodes} episodes do not divide into learner.minibatches x "
                f"learner.micro_batches = {parts} equal parts. Change one of them."
            )

    def rows(self) -> dict[str, int]:
        """Rows of its batches, which a mesh must divide: see `sharding.require_fit`."""
        episodes = self.scenarios * self.group // (self.minibatches * self.micro_batches)
        return {
            "learner.scenarios": self.scenarios,
            "learner.scenarios x group / (minibatches x micro_batches)": episodes,
        }
