"""The one program: sample scenarios, play them, reward, update. Everything under one `jax.jit`, state donated."""

from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Literal, NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import optax

from negot_jax.config import field
from negot_jax.game import rewards
from negot_jax.game.types import BUYER, SELLER, Scenario
from negot_jax.models import lora, sharding, value_head
from negot_jax.models.presets import ModelConfig
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import losses, objective, players, rollout
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.environment import Environment
from negot_jax.rl.objective import Metrics


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


class Skipped(NamedTuple):
    """Updates left out because they were not finite: int32 counts, in all and since the last one that was."""

    total: jax.Array
    in_a_row: jax.Array


@struct.dataclass
class TrainState:
    """What an update changes. weights: those that are trained, see `Learner.trained`. iteration: int32. key: the run's
    PRNG key, folded with the iteration.
    """

    weights: Weights
    opt_state: optax.OptState
    iteration: jax.Array
    skipped: Skipped
    key: jax.Array


def init_state(key: jax.Array, weights: Weights, optimizer: optax.GradientTransformation) -> TrainState:
    # An array each, not one for all: the state is donated, and a buffer can be donated once.
    iteration, total, in_a_row = (jnp.zeros((), jnp.int32) for _ in range(3))
    return TrainState(weights, optimizer.init(weights), iteration, Skipped(total, in_a_row), key)


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
class Learner:
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
        env: Environment,
        scenarios: Scenario,
        group: int,
        sampling: SamplingConfig,
    ) -> rollout.Trajectory:
        """Episodes of the buyer, with these trained weights, against the seller."""
        frozen = self.settled(frozen)
        weights = self.whole(sharding.settle(trained, self.model.dtype), frozen)
        buyer = players.LanguageModelPlayer(BUYER, self.model, weights, sampling)
        seller = None if self.seller is None else self.seller.player(frozen)
        return rollout.rollout(key, env, scenarios, group, buyer, seller)

    def score(self, weights: Weights, env: Environment, dialogue: rollout.Dialogue) -> losses.Scores:
        """As the trainer sees the buyer's messages, with all its weights."""
        side = env.buyer
        return losses.score_messages(self.model, weights, side.layout, dialogue, side.form, self.sampling.temperature)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(
    learner: Learner, state: TrainState, env: Environment, frozen: Frozen = NOTHING_FROZEN
) -> tuple[TrainState, Metrics]:
    """One iteration: rollout, reward, advantages, epochs x minibatches of updates. Metrics are (sum, weight) pairs."""
    config = learner.config
    key_scenarios, key_rollout, key_order = jax.random.split(jax.random.fold_in(state.key, state.iteration), 3)
    scenarios = sharding.split_rows(rollout.sample_scenarios(key_scenarios, env, config.scenarios))
    trajectory = learner.play(key_rollout, state.weights, frozen, env, scenarios, config.group, learner.sampling)
    outcome = jax.vmap(rewards.outcome, (0, None))(trajectory.state, env.params)
    dialogue = trajectory.buyer
    fixed, fixed_metrics = prepare(learner, state.weights, frozen, env, dialogue, outcome.reward)

    optimizer = learner.make_optimizer()

    def update(carry, rows):
        part = jax.tree.map(lambda x: x[rows], (dialogue, fixed))
        part_loss = functools.partial(loss, learner, env, frozen)
        return apply_gradients(optimizer, part_loss, carry, part, config.micro_batches)

    B = config.scenarios * config.group
    orders = [jax.random.permutation(jax.random.fold_in(key_order, epoch), B) for epoch in range(config.epochs)]
    if config.epochs * config.minibatches == 1:
        orders = [jnp.arange(B)]
    rows = jnp.stack(orders).reshape(config.epochs * config.minibatches, -1)
    carry = (state.weights, state.opt_state, state.skipped)
    (weights, opt_state, skipped), update_metrics = jax.lax.scan(update, carry, rows)
    metrics = rewards.metrics(outcome) | fixed_metrics | jax.tree.map(lambda x: x.sum(axis=0), update_metrics)
    # Before the first update the trainer's weights are the sampler's: any gap is numerical.
    metrics["sampler_gap"] = jax.tree.map(lambda x: x[0], update_metrics["ratio_gap"])
    read = dialogue.valid_BxT[:, : env.buyer.layout.columns]
    metrics["padding_efficiency"] = (read.sum(dtype=jnp.float32), jnp.float32(read.size))
    metrics["buyer_tokens"] = (dialogue.sampled_BxKxW.sum(dtype=jnp.float32), jnp.float32(1))
    metrics["skipped_updates"] = (skipped.total.astype(jnp.float32), jnp.float32(1))
    metrics["skipped_in_a_row"] = (skipped.in_a_row.astype(jnp.float32), jnp.float32(1))
    state = state.replace(weights=weights, opt_state=opt_state, skipped=skipped, iteration=state.iteration + 1)
    # Laid out as it came: under another layout the next call would compile again.
    return sharding.keep(state), sharding.keep_whole(metrics)


def prepare(
    learner: Learner,
    trained: Weights,
    frozen: Frozen,
    env: Environment,
    dialogue: rollout.Dialogue,
    rewards_B: jax.Array,
) -> tuple[objective.Batch, Metrics]:
    """What is held fixed while episodes are learned from; the model is asked for no more than the algorithm needs."""
    config, algorithm = learner.config, learner.algorithm
    sampled, sampler = _slots(dialogue.sampled_BxKxW), _slots(dialogue.log_probs_BxKxW)

    def score(weights):
        """In parts as large as a micro-batch, since a whole batch need not fit."""
        parts = cut(dialogue, config.minibatches * config.micro_batches)
        scores = jax.lax.map(lambda part: learner.score(weights, env, part), parts)
        return jax.tree.map(lambda x: x.reshape(sampled.shape), scores)

    old = score(learner.whole(trained, frozen)) if algorithm.rescores else None
    reference_BxN = None if algorithm.kl == "none" else score(learner.reference(frozen)).log_probs
    return objective.prepare(algorithm, config.group, rewards_B, sampled, sampler, old, reference_BxN)


def loss(
    learner: Learner,
    env: Environment,
    frozen: Frozen,
    trained: Weights,
    batch: tuple[rollout.Dialogue, objective.Batch],
) -> tuple[losses.Pair, Metrics]:
    """The objective on some episodes, as `objective.loss`."""
    dialogue, fixed = batch
    return objective.loss(learner.algorithm, learner.score(learner.whole(trained, frozen), env, dialogue), fixed)


def cut(batch: object, parts: int) -> object:
    """Rows [B, ...] in equal parts, [parts, B / parts, ...], each of them spread over all devices."""
    return sharding.split_rows(jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch), axis=1)


def _slots(x_BxKxW: jax.Array) -> jax.Array:
    """The buyer's token slots of an episode in order, [B, N]."""
    return x_BxKxW.reshape(x_BxKxW.shape[0], -1)


def apply_gradients(
    optimizer: optax.GradientTransformation,
    loss: Callable[[Weights, object], tuple[losses.Pair, Metrics]],
    carry: tuple[Weights, optax.OptState, Skipped],
    batch: object,
    micro_batches: int,
) -> tuple[tuple[Weights, optax.OptState, Skipped], Metrics]:
    """One update from the gradient of sum / weight over a batch, added up over micro-batches exactly.

    Micro-batches differentiate their sums; the division by the whole batch's weight comes last, so how the batch is
    cut changes nothing but rounding. An update that is not finite is skipped and counted.

    Args:
      loss: (weights, batch) to the loss's (sum, weight), where the weight does not depend on the weights, and metrics.
      carry: weights, optimizer state, counts of skipped updates. batch: a pytree of arrays with equal leading axes.
    """
    weights, opt_state, skipped = carry
    parts = cut(batch, micro_batches)

    def summed(weights, part):
        (total, weight), metrics = loss(weights, part)
        return total, metrics | {"loss": (total, weight)}

    def add(accumulated, part):
        gradient, metrics = jax.grad(summed, has_aux=True)(weights, part)
        return sharding.keep(jax.tree.map(jnp.add, accumulated, (gradient, metrics))), None

    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(jax.grad(summed, has_aux=True), weights, jax.tree.map(lambda x: x[0], parts)),
    )
    (gradient, metrics), _ = jax.lax.scan(add, sharding.keep(zeros), parts)
    gradient = jax.tree.map(lambda g: g / jnp.maximum(metrics["loss"][1], 1.0), gradient)
    norm = optax.global_norm(gradient)
    updates, new_opt_state = optimizer.update(gradient, opt_state, weights)
    new_weights = optax.apply_updates(weights, updates)
    finite = jnp.isfinite(norm) & jnp.isfinite(optax.global_norm(new_weights))
    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
    metrics["grad_norm"] = (norm, jnp.float32(1))
    skipped = Skipped(skipped.total + ~finite, jnp.where(finite, 0, skipped.in_a_row + 1))
    return (keep(new_weights, weights), keep(new_opt_state, opt_state), skipped), metrics
