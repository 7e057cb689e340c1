"""The one program: sample scenarios, play them, reward, update. Everything under one `jax.jit`, state donated."""

import dataclasses
import functools

from flax import struct
import jax
import jax.numpy as jnp
import optax

from negot_jax.game import rewards
from negot_jax.game.types import BUYER, SELLER, Scenario
from negot_jax.models import lora, sharding, value_head
from negot_jax.models.presets import ModelConfig
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import losses, objective, players, rollout, scoring
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.configs import LearnerConfig, OptimizerConfig
from negot_jax.rl.objective import Metrics
from negot_jax.rl.tables import Tables
from negot_jax.rl.updates import TrainState, apply_gradients, cut, init_state


@struct.dataclass
class Frozen:
    """Weights that no update changes; an entry that nothing reads is None.

    base: the buyer's model as it came, which its adapters adapt, and which may sell. seller: a seller's own weights.
    reference: what is trained, as it was before the first update, where that is not the base.
    """

    base: Weights | None = None
    seller: Weights | None = None
    reference: Weights | None = None


NOTHING_FROZEN = Frozen()


@dataclasses.dataclass(frozen=True)
class Seller:
    """A language model that sells: its shape, how it draws its tokens, and whether it is the buyer's base."""

    model: ModelConfig
    sampling: SamplingConfig
    shared: bool

    def player(self, frozen: Frozen) -> players.LanguageModelPlayer:
        weights = frozen.base if self.shared else frozen.seller
        return players.LanguageModelPlayer(SELLER, self.model, weights, self.sampling)


@dataclasses.dataclass(frozen=True)
class Program:
    """Everything static about the program. seller: None for a scripted one."""

    model: ModelConfig
    config: LearnerConfig
    algorithm: AlgorithmConfig
    sampling: SamplingConfig
    optimizer: OptimizerConfig
    iterations: int
    seller: Seller | None = None

    def __post_init__(self):
        self.sampling.require_full_support("learner.sampling")
        if self.config.group < 2 and not self.algorithm.critic:
            raise ValueError(
                f"learner.group={self.config.group}: a group's mean is its baseline, so use 2 episodes or more, "
                "or algorithm.advantage=gae."
            )

    def make_optimizer(self) -> optax.GradientTransformation:
        return self.optimizer.make(self.iterations * self.config.epochs * self.config.minibatches)

    def init_state(self, key: jax.Array, weights: Weights) -> TrainState:
        """Where training begins: the language model's weights, and a critic where the algorithm has one."""
        if self.algorithm.critic:
            weights = value_head.attach(weights, self.model)
        return init_state(key, self.trained(weights), self.make_optimizer())

    def trained(self, weights: Weights) -> Weights:
        """Of all weights those that are trained: with adapters these and the critic alone. No array is copied."""
        return lora.split(weights)[0] if self.model.lora.rank else weights

    def whole(self, trained: Weights, frozen: Frozen) -> Weights:
        """All weights of the buyer; undoes `trained`."""
        return lora.join(trained, frozen.base) if self.model.lora.rank else trained

    def reference(self, frozen: Frozen) -> Weights:
        """The weights that a divergence is measured from."""
        if frozen.base is None and frozen.reference is None:
            raise ValueError(f"algorithm.kl={self.algorithm.kl!r} measures from a reference, and there is none.")
        return frozen.base if frozen.reference is None else self.whole(frozen.reference, frozen)

    def settled(self, frozen: Frozen) -> Frozen:
        """Frozen weights as players need them, see `sharding.settle`; each of them once, however many share it."""
        base, seller = sharding.settle(frozen.base, self.model.dtype), frozen.seller
        return Frozen(base=base, seller=seller and sharding.settle(seller, self.seller.model.dtype))

    def play(
        self,
        key: jax.Array,
        trained: Weights,
        frozen: Frozen,
        tables: Tables,
        scenarios: Scenario,
        group: int,
        sampling: SamplingConfig,
    ) -> rollout.Trajectory:
        """Episodes of the buyer, with these trained weights, against the seller."""
        frozen = self.settled(frozen)
        weights = self.whole(sharding.settle(trained, self.model.dtype), frozen)
        buyer = players.LanguageModelPlayer(BUYER, self.model, weights, sampling)
        seller = None if self.seller is None else self.seller.player(frozen)
        return rollout.rollout(key, tables, scenarios, group, buyer, seller)

    def score(self, weights: Weights, tables: Tables, dialogue: rollout.Dialogue) -> scoring.TokenScores:
        """As the trainer sees the buyer's messages, with all its weights."""
        side = tables.buyer
        return scoring.score_messages(self.model, weights, side.layout, dialogue, side.form, self.sampling.temperature)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(
    program: Program, state: TrainState, tables: Tables, frozen: Frozen = NOTHING_FROZEN
) -> tuple[TrainState, Metrics]:
    """One iteration: rollout, reward, advantages, epochs x minibatches of updates. Metrics are (sum, weight) pairs."""
    config = program.config
    key_scenarios, key_rollout, key_order = jax.random.split(jax.random.fold_in(state.key, state.iteration), 3)
    scenarios = sharding.split_rows(rollout.sample_scenarios(key_scenarios, tables, config.scenarios))
    trajectory = program.play(key_rollout, state.weights, frozen, tables, scenarios, config.group, program.sampling)
    outcome = jax.vmap(rewards.outcome, (0, None))(trajectory.state, tables.params)
    dialogue = trajectory.buyer
    targets, target_metrics = make_targets(program, state.weights, frozen, tables, dialogue, outcome.reward)

    optimizer = program.make_optimizer()

    def update(carry, rows):
        part = jax.tree.map(lambda x: x[rows], (dialogue, targets))
        part_loss = functools.partial(episode_loss, program, tables, frozen)
        return apply_gradients(optimizer, part_loss, carry, part, config.micro_batches)

    B = config.scenarios * config.group
    orders = [jax.random.permutation(jax.random.fold_in(key_order, epoch), B) for epoch in range(config.epochs)]
    if config.epochs * config.minibatches == 1:
        orders = [jnp.arange(B)]
    rows = jnp.stack(orders).reshape(config.epochs * config.minibatches, -1)
    carry = (state.weights, state.opt_state, state.skipped)
    (weights, opt_state, skipped), update_metrics = jax.lax.scan(update, carry, rows)
    metrics = rewards.metrics(outcome) | target_metrics | jax.tree.map(lambda x: x.sum(axis=0), update_metrics)
    # Before the first update the trainer's weights are the sampler's: any gap is numerical.
    metrics["sampler_gap"] = jax.tree.map(lambda x: x[0], update_metrics["ratio_gap"])
    read = dialogue.valid_BxT[:, : tables.buyer.layout.columns]
    metrics["padding_efficiency"] = (read.sum(dtype=jnp.float32), jnp.float32(read.size))
    metrics["buyer_tokens"] = (dialogue.sampled_BxKxW.sum(dtype=jnp.float32), jnp.float32(1))
    metrics["skipped_updates"] = (skipped.total.astype(jnp.float32), jnp.float32(1))
    metrics["skipped_in_a_row"] = (skipped.in_a_row.astype(jnp.float32), jnp.float32(1))
    state = state.replace(weights=weights, opt_state=opt_state, skipped=skipped, iteration=state.iteration + 1)
    # Laid out as it came: under another layout the next call would compile again.
    return sharding.keep(state), sharding.keep_whole(metrics)


def make_targets(
    program: Program,
    trained: Weights,
    frozen: Frozen,
    tables: Tables,
    dialogue: rollout.Dialogue,
    rewards_B: jax.Array,
) -> tuple[objective.Targets, Metrics]:
    """What is held fixed while episodes are learned from; the model is asked for no more than the algorithm needs."""
    config, algorithm = program.config, program.algorithm
    sampled, sampler_log_probs = _slots(dialogue.sampled_BxKxW), _slots(dialogue.log_probs_BxKxW)

    def score(weights):
        """In parts as large as a micro-batch, since a whole batch need not fit."""
        parts = cut(dialogue, config.minibatches * config.micro_batches)
        scores = jax.lax.map(lambda part: program.score(weights, tables, part), parts)
        return jax.tree.map(lambda x: x.reshape(sampled.shape), scores)

    old = score(program.whole(trained, frozen)) if algorithm.rescores else None
    reference_log_probs = None if algorithm.kl == "none" else score(program.reference(frozen)).log_probs
    return objective.make_targets(
        algorithm, config.group, rewards_B, sampled, sampler_log_probs, old, reference_log_probs
    )


def episode_loss(
    program: Program,
    tables: Tables,
    frozen: Frozen,
    trained: Weights,
    batch: tuple[rollout.Dialogue, objective.Targets],
) -> tuple[losses.Pair, Metrics]:
    """The objective on some episodes, as `objective.loss`."""
    dialogue, targets = batch
    return objective.loss(program.algorithm, program.score(program.whole(trained, frozen), tables, dialogue), targets)


def _slots(x_BxKxW: jax.Array) -> jax.Array:
    """The buyer's token slots of an episode in order, [B, N]."""
    return x_BxKxW.reshape(x_BxKxW.shape[0], -1)
