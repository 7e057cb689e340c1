"""The one program: sample scenarios, play them, reward, update. Everything under one `jax.jit`, state donated."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Literal

from flax import struct
import jax
import jax.numpy as jnp
import optax

from negot_jax.config import field
from negot_jax.game import rewards
from negot_jax.models.presets import ModelConfig
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import advantages, losses, rollout
from negot_jax.rl.environment import Environment

Metrics = dict[str, losses.Pair]


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
    """One iteration: how much is played, and how it is learned from. GRPO (Shao et al. 2024)."""

    scenarios: int = field(64, "scenarios an iteration")
    group: int = field(8, "episodes of each scenario")
    epochs: int = field(1, "passes over an iteration's episodes")
    minibatches: int = field(1, "updates a pass")
    micro_batches: int = field(1, "parts of a minibatch whose gradients are added up, to save memory")
    clip: tuple[float, ...] = field((0.2, 0.2), "how far the importance ratio may leave 1, downwards and upwards")
    divide_by_std: bool = field(False, "divide advantages by their group's standard deviation")

    def __post_init__(self):
        for name in ("scenarios", "epochs", "minibatches", "micro_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"learner.{name}={getattr(self, name)} must be at least 1.")
        if self.group < 2:
            raise ValueError(f"learner.group={self.group}: a group's mean is its baseline, so use 2 episodes or more.")
        episodes, parts = self.scenarios * self.group, self.minibatches * self.micro_batches
        if episodes % parts:
            raise ValueError(
                f"learner.scenarios x learner.group = {episodes} episodes do not divide into learner.minibatches x "
                f"learner.micro_batches = {parts} equal parts. Change one of them."
            )
        if len(self.clip) != 2 or min(self.clip) <= 0 or self.clip[0] >= 1:
            raise ValueError(f"learner.clip={self.clip}: two positive numbers, the first below 1.")


@struct.dataclass
class TrainState:
    """What an update changes. iteration, skipped: int32. key: the run's PRNG key, folded with the iteration."""

    weights: Weights
    opt_state: optax.OptState
    iteration: jax.Array
    skipped: jax.Array
    key: jax.Array


def init_state(key: jax.Array, weights: Weights, optimizer: optax.GradientTransformation) -> TrainState:
    # Two arrays, not one twice: the state is donated, and a buffer can be donated once.
    iteration, skipped = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    opt_state = optimizer.init(weights)
    return TrainState(weights=weights, opt_state=opt_state, iteration=iteration, skipped=skipped, key=key)


@dataclasses.dataclass(frozen=True)
class Learner:
    """The static half of training; `train_step` is a pure function of it, a state and an environment."""

    model: ModelConfig
    config: LearnerConfig
    sampling: SamplingConfig
    optimizer: OptimizerConfig
    iterations: int

    def __post_init__(self):
        self.sampling.require_full_support("learner.sampling")

    def make_optimizer(self) -> optax.GradientTransformation:
        return self.optimizer.make(self.iterations * self.config.epochs * self.config.minibatches)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(learner: Learner, state: TrainState, env: Environment) -> tuple[TrainState, Metrics]:
    """One iteration: rollout, reward, advantages, epochs x minibatches of updates. Metrics are (sum, weight) pairs."""
    config = learner.config
    key_scenarios, key_rollout, key_order = jax.random.split(jax.random.fold_in(state.key, state.iteration), 3)
    scenarios = rollout.sample_scenarios(key_scenarios, env, config.scenarios)
    buyer = rollout.LanguageModelBuyer(learner.model, state.weights, learner.sampling)
    trajectory = rollout.rollout(key_rollout, env, scenarios, config.group, buyer)
    outcome = jax.vmap(rewards.outcome)(trajectory.state)
    advantage_B = advantages.group_advantages(outcome.reward, config.group, config.divide_by_std)

    def loss(weights, batch):
        trajectory, advantage_B = batch
        log_probs, entropy = losses.message_log_probs(
            learner.model, weights, env.layout, trajectory, env.form, learner.sampling.temperature
        )
        mask = trajectory.sampled_BxKxW
        old = trajectory.log_probs_BxKxW
        values, clipped = losses.clipped_policy_loss(log_probs, old, advantage_B[:, None, None], config.clip)
        gap = jnp.where(mask, jnp.abs(log_probs - old), 0.0)
        return losses.masked(values, mask), {
            "entropy": losses.masked(entropy, mask),
            "clip_fraction": losses.masked(clipped, mask),
            "ratio_gap": losses.masked(gap, mask),
        }

    optimizer = learner.make_optimizer()

    def update(carry, rows):
        batch = jax.tree.map(lambda x: x[rows], (trajectory, advantage_B))
        return apply_gradients(optimizer, loss, carry, batch, config.micro_batches)

    B = config.scenarios * config.group
    orders = [jax.random.permutation(jax.random.fold_in(key_order, epoch), B) for epoch in range(config.epochs)]
    if config.epochs * config.minibatches == 1:
        orders = [jnp.arange(B)]
    rows = jnp.stack(orders).reshape(config.epochs * config.minibatches, -1)
    (weights, opt_state, skipped), update_metrics = jax.lax.scan(
        update, (state.weights, state.opt_state, state.skipped), rows
    )
    metrics = rewards.metrics(outcome) | jax.tree.map(lambda x: x.sum(axis=0), update_metrics)
    # Before the first update the trainer's weights are the sampler's: any gap is numerical.
    metrics["sampler_gap"] = jax.tree.map(lambda x: x[0], update_metrics["ratio_gap"])
    read = trajectory.valid_BxT[:, : env.layout.columns]
    metrics["padding_efficiency"] = (read.sum(dtype=jnp.float32), jnp.float32(read.size))
    metrics["buyer_tokens"] = (trajectory.sampled_BxKxW.sum(dtype=jnp.float32), jnp.float32(1))
    metrics["skipped_updates"] = (skipped.astype(jnp.float32), jnp.float32(1))
    state = state.replace(weights=weights, opt_state=opt_state, skipped=skipped, iteration=state.iteration + 1)
    return state, metrics


def apply_gradients(
    optimizer: optax.GradientTransformation,
    loss: Callable[[Weights, object], tuple[losses.Pair, Metrics]],
    carry: tuple[Weights, optax.OptState, jax.Array],
    batch: object,
    micro_batches: int,
) -> tuple[tuple[Weights, optax.OptState, jax.Array], Metrics]:
    """One update from the gradient of sum / weight over a batch, added up over micro-batches exactly.

    Micro-batches differentiate their sums; the division by the whole batch's weight comes last, so how the batch is
    cut changes nothing but rounding. An update that is not finite is skipped and counted.

    Args:
      loss: (weights, batch) to the loss's (sum, weight), where the weight does not depend on the weights, and metrics.
      carry: weights, optimizer state, count of skipped updates. batch: a pytree of arrays with equal leading axes.
    """
    weights, opt_state, skipped = carry
    parts = jax.tree.map(lambda x: x.reshape(micro_batches, -1, *x.shape[1:]), batch)

    def summed(weights, part):
        (total, weight), metrics = loss(weights, part)
        return total, metrics | {"loss": (total, weight)}

    def add(accumulated, part):
        gradient, metrics = jax.grad(summed, has_aux=True)(weights, part)
        return jax.tree.map(jnp.add, accumulated, (gradient, metrics)), None

    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype),
        jax.eval_shape(jax.grad(summed, has_aux=True), weights, jax.tree.map(lambda x: x[0], parts)),
    )
    (gradient, metrics), _ = jax.lax.scan(add, zeros, parts)
    gradient = jax.tree.map(lambda g: g / jnp.maximum(metrics["loss"][1], 1.0), gradient)
    norm = optax.global_norm(gradient)
    updates, new_opt_state = optimizer.update(gradient, opt_state, weights)
    new_weights = optax.apply_updates(weights, updates)
    finite = jnp.isfinite(norm) & jnp.isfinite(optax.global_norm(new_weights))
    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
    metrics["grad_norm"] = (norm, jnp.float32(1))
    return (keep(new_weights, weights), keep(new_opt_state, opt_state), skipped + ~finite), metrics
