"""A warm start: behaviour cloning of scripted players, so that reinforcement learning begins with one that can speak.

The dialogues are played and written inside the compiled program, in the same columns as any rollout; a side's own
tokens are the targets. Scores are over the whole vocabulary, so a model learns the form of a message even where
decoding would force it.
"""

import dataclasses
import functools

import jax
import tqdm

from negot_jax.config import field
from negot_jax.game import buyers
from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import lora, sharding
from negot_jax.models.presets import ModelConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import losses, players, rollout, scoring
from negot_jax.rl.configs import OptimizerConfig
from negot_jax.rl.tables import Tables
from negot_jax.rl.updates import TrainState, apply_gradients, init_state
from negot_jax.training.metrics import reduce


@dataclasses.dataclass(frozen=True)
class WarmStartConfig:
    """How much is cloned, and whom."""

    steps: int = field(300, "updates; 0 starts from random weights")
    episodes: int = field(256, "dialogues an update, each of another scenario")
    micro_batches: int = field(1, "parts of an update whose gradients are added up, to save memory")
    buyers: tuple[str, ...] = field(
        ("linear(start=0.4, end=1.0)", "linear(start=0.5, end=1.0)", "concession", "tit_for_tat"),
        "the scripted buyers to clone, in equal parts",
    )
    optimizer: OptimizerConfig = field(
        OptimizerConfig(learning_rate=3e-3, schedule="cosine", warmup=20), "the optimizer of the warm start"
    )

    def __post_init__(self):
        for name, least in (("steps", 0), ("episodes", 1), ("micro_batches", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"warm_start.{name}={getattr(self, name)} must be at least {least}.")
        if self.steps and self.episodes % self.micro_batches:
            raise ValueError(
                f"warm_start.episodes={self.episodes} do not divide into warm_start.micro_batches="
                f"{self.micro_batches} equal parts. Change one of them."
            )
        if not self.buyers:
            raise ValueError("warm_start.buyers is empty: name a scripted buyer, or set warm_start.steps=0.")
        for spec in self.buyers:
            buyers.make(spec)

    def rows(self) -> dict[str, int]:
        """Rows of its batches, which a mesh must divide: see `sharding.require_fit`."""
        return {"warm_start.episodes / micro_batches": self.episodes // self.micro_batches} if self.steps else {}


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def clone_step(
    config: WarmStartConfig,
    model: ModelConfig,
    role: int,
    state: TrainState,
    base: Weights,
    tables: Tables,
) -> tuple[TrainState, losses.Metrics]:
    """One update on fresh dialogues. base: the weights that stay as they are, {} where all are trained."""
    key_scenarios, key_buyers = jax.random.split(jax.random.fold_in(state.key, state.iteration))
    scenarios = sharding.split_rows(rollout.sample_scenarios(key_scenarios, tables, config.episodes))
    policies = tuple(map(buyers.make, config.buyers))
    buyer = players.scripted_buyer(policies, tables.params.turns, key_buyers, keeps_dialogue=role == BUYER)
    seller = players.scripted_seller(tables, keeps_dialogue=role == SELLER)
    dialogues = rollout.rollout(key_buyers, tables, scenarios, 1, buyer, seller).dialogue(role)

    def loss(trained: Weights, part: rollout.Dialogue):
        weights = lora.join(trained, base)
        scores = scoring.score_messages(model, weights, tables.side(role).layout, part, None, 1.0)
        return losses.masked(-scores.log_probs, part.sampled_BxKxW.reshape(scores.log_probs.shape)), {}

    (weights, opt_state, skipped), metrics = apply_gradients(
        config.optimizer.make(config.steps),
        loss,
        (state.weights, state.opt_state, state.skipped),
        dialogues,
        config.micro_batches,
    )
    state = state.replace(weights=weights, opt_state=opt_state, skipped=skipped, iteration=state.iteration + 1)
    return sharding.keep(state), sharding.keep_whole(metrics)


def warm_start(
    config: WarmStartConfig,
    model: ModelConfig,
    key: jax.Array,
    weights: Weights,
    tables: Tables,
    role: int = BUYER,
) -> Weights:
    """Clones a side for `config.steps` updates, of a model with adapters these alone.

    Deterministic in its arguments: an interrupted one is simply run again. Arrays that are trained are given up.

    Returns:
      The weights that were trained.
    """
    trained, base = lora.split(weights) if model.lora.rank else (weights, {})
    state = init_state(key, trained, config.optimizer.make(config.steps))
    named = {BUYER: "warm start", SELLER: "warm start of the seller"}[role]
    bar = tqdm.trange(config.steps, desc=named, unit="it", dynamic_ncols=True)
    for step in bar:
        state, metrics = clone_step(config, model, role, state, base, tables)
        if step % 20 == 19 or step == config.steps - 1:
            bar.set_postfix({"loss": f"{reduce(jax.device_get(metrics))['loss']:.3g}"})
    return state.weights
