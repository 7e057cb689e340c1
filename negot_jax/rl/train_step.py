"""The one program: sample scenarios, play them, reward, update. Everything under one `jax.jit`, state donated."""

import dataclasses
import functools

from flax import struct
import jax
import jax.numpy as jnp
import optax

from negot_jax.game import rewards
from negot_jax.game.buyers import Buyer
from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import lora, sharding, value_head
from negot_jax.models.presets import ModelConfig
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl import losses, objective, rollout, scoring
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.configs import LearnerConfig, OptimizerConfig
from negot_jax.rl.players import LanguageModelPlayer, Player, scripted_buyer, scripted_seller
from negot_jax.rl.tables import Tables
from negot_jax.rl.updates import TrainState, apply_gradients, cut, init_state

SAMPLED = 8  # Episodes of an iteration that a step returns, for a reader.


@struct.dataclass
class Frozen:
    """Weights that no update changes; None for what nothing reads.

    base: the learner's model as published, which its adapters adapt and which may be its opponent. opponent: a frozen
    opponent's own weights. reference: the trained weights before the first update, where those are not the base's.
    """

    base: Weights | None = None
    opponent: Weights | None = None
    reference: Weights | None = None


NOTHING_FROZEN = Frozen()


@dataclasses.dataclass(frozen=True)
class FrozenModel:
    """A language model as the opponent. shared: whether its weights are the learner's base; its own ones are adapters
    of that base if the model has adapters.
    """

    model: ModelConfig
    sampling: SamplingConfig
    shared: bool

    def weights(self, frozen: Frozen) -> Weights:
        if self.shared:
            return frozen.base
        return lora.join(frozen.opponent, frozen.base) if self.model.lora.rank else frozen.opponent


@dataclasses.dataclass(frozen=True)
class Program:
    """Everything static about the program. opponent: who sits opposite the learner, a frozen language model or scripted
    buyers, one of them per scenario; None for the scripted seller of the tables.
    """

    model: ModelConfig
    config: LearnerConfig
    algorithm: AlgorithmConfig
    sampling: SamplingConfig
    optimizer: OptimizerConfig
    iterations: int
    opponent: FrozenModel | tuple[Buyer, ...] | None = None

    @property
    def role(self) -> int:
        return BUYER if self.config.role == "buyer" else SELLER

    @property
    def scripted(self) -> bool:
        """Whether the opponent is scripted."""
        return not isinstance(self.opponent, FrozenModel)

    @property
    def updates(self) -> int:
        """Updates per iteration."""
        return self.config.epochs * self.config.minibatches

    def make_optimizer(self) -> optax.GradientTransformation:
        return self.optimizer.make(self.iterations * self.updates)

    def learning_rate(self, state: TrainState) -> jax.Array:
        """The learning rate of the next update. Skipped updates do not count."""
        made = state.iteration * self.updates - state.skipped.total
        return jnp.asarray(self.optimizer.rate(self.iterations * self.updates)(made), jnp.float32)

    def init_state(self, key: jax.Array, weights: Weights) -> TrainState:
        """The state before the first update, from the language model's weights; adds a critic if one is needed."""
        if self.algorithm.critic:
            weights = value_head.attach(weights, self.model)
        return init_state(key, self.trained(weights), self.make_optimizer())

    def trained(self, weights: Weights) -> Weights:
        """Selects the trained weights: with adapters, only these and the critic. Copies nothing."""
        return lora.split(weights)[0] if self.model.lora.rank else weights

    def whole(self, trained: Weights, frozen: Frozen) -> Weights:
        """All weights of the learner; undoes `trained`."""
        return lora.join(trained, frozen.base) if self.model.lora.rank else trained

    def reference(self, frozen: Frozen) -> Weights:
        """The weights of the KL term's reference policy."""
        if frozen.base is None and frozen.reference is None:
            raise ValueError(f"algorithm.kl={self.algorithm.kl!r} needs a reference: set frozen.base or .reference.")
        return frozen.base if frozen.reference is None else self.whole(frozen.reference, frozen)

    def players(
        self, trained: Weights, frozen: Frozen, tables: Tables, sampling: SamplingConfig | None = None
    ) -> tuple[Player, Player]:
        """Buyer and seller: the learner with these trained weights, which draws its tokens by `sampling`, by default
        the program's, and its opponent.
        """
        frozen = self._gathered(frozen)
        weights = self.whole(sharding.gather_weights(trained, self.model.products), frozen)
        learner = LanguageModelPlayer(self.role, self.model, weights, sampling or self.sampling)
        seated = (learner, self._opponent(frozen, tables))
        return seated if self.role == BUYER else seated[::-1]

    def opponent_player(self, frozen: Frozen, tables: Tables) -> Player:
        """The opponent alone, for others to play against."""
        return self._opponent(self._gathered(frozen), tables)

    def score(
        self, weights: Weights, tables: Tables, dialogue: rollout.Dialogue, width: int | None = None
    ) -> scoring.TokenScores:
        """Recomputes the learner's log-probabilities, with all its weights; width as in `scoring.score_messages`."""
        side, temperature = tables.side(self.role), self.sampling.temperature
        return scoring.score_messages(self.model, weights, side.layout, dialogue, side.form, temperature, width)

    def step(
        self, iteration: int, state: TrainState, tables: Tables, frozen: Frozen = NOTHING_FROZEN
    ) -> tuple[TrainState, losses.Metrics, rollout.Trajectory]:
        """One iteration, see `train_step`; the state says which."""
        del iteration
        return train_step(self, state, tables, frozen)

    def _opponent(self, frozen: Frozen, tables: Tables) -> Player:
        other = self.opponent
        if other is None:
            return scripted_seller(tables)
        if self.scripted:
            return scripted_buyer(other, tables.params.turns)
        return LanguageModelPlayer(1 - self.role, other.model, other.weights(frozen), other.sampling, per_scenario=True)

    def _gathered(self, frozen: Frozen) -> Frozen:
        """Weights for decoding, see `sharding.gather_weights`; each only once, however many players share it."""
        base, opponent = sharding.gather_weights(frozen.base, self.model.products), frozen.opponent
        return Frozen(base=base, opponent=opponent and sharding.gather_weights(opponent, self.opponent.model.products))


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_step(
    program: Program, state: TrainState, tables: Tables, frozen: Frozen = NOTHING_FROZEN
) -> tuple[TrainState, losses.Metrics, rollout.Trajectory]:
    """One iteration: rollout, reward, advantages, epochs x minibatches of updates.

    Returns the next state; metrics as (sum, weight) pairs; and a sample of what was played, an episode of each of the
    first `SAMPLED` scenarios, as `rollout.readable`.
    """
    config = program.config
    frozen = frozen.replace(base=sharding.cast_weights(frozen.base, program.model.products))
    key_scenarios, key_rollout, key_order = jax.random.split(jax.random.fold_in(state.key, state.iteration), 3)
    scenarios = sharding.shard_rows(rollout.sample_scenarios(key_scenarios, tables, config.scenarios))
    seated = program.players(state.weights, frozen, tables)
    trajectory = rollout.rollout(key_rollout, tables, scenarios, config.group, *seated)
    outcome = jax.vmap(functools.partial(rewards.outcome, params=tables.params, role=program.role))(trajectory.state)
    dialogue = trajectory.dialogue(program.role)
    targets, target_metrics = make_targets(program, state.weights, frozen, tables, dialogue, outcome.reward)

    optimizer, layout = program.make_optimizer(), tables.side(program.role).layout

    def update(carry, rows):
        part = jax.tree.map(lambda x: x[rows], (dialogue, targets))
        part_loss = functools.partial(episode_loss, program, tables, frozen)
        widths = scoring.widths(layout, part[0], config.widths)
        return apply_gradients(optimizer, part_loss, carry, part, config.micro_batches, widths)

    B = config.scenarios * config.group
    orders = [jax.random.permutation(jax.random.fold_in(key_order, epoch), B) for epoch in range(config.epochs)]
    if program.updates == 1:
        orders = [jnp.arange(B)]
    rows = jnp.stack(orders).reshape(program.updates, -1)
    carry = (state.weights, state.opt_state, state.skipped)
    (weights, opt_state, skipped), update_metrics = jax.lax.scan(update, carry, rows)
    metrics = rewards.metrics(outcome) | target_metrics | jax.tree.map(lambda x: x.sum(axis=0), update_metrics)
    # Before the first update the trainer's weights are the sampler's: any gap is numerical.
    for name in ("gap", "tail", "rerouted"):
        if (ratio := f"ratio_{name}") in update_metrics:
            metrics[f"sampler_{name}"] = jax.tree.map(lambda x: x[0], update_metrics[ratio])
    read = dialogue.valid_BxT[:, : layout.columns]
    metrics["padding_efficiency"] = (read.sum(dtype=jnp.float32), jnp.float32(read.size))
    metrics["rollout/active"] = trajectory.active()
    metrics["sampled_tokens"] = (dialogue.sampled_BxKxW.sum(dtype=jnp.float32), jnp.float32(1))
    metrics["learning_rate"] = (program.learning_rate(state), jnp.float32(1))
    metrics["skipped_updates"] = (skipped.total.astype(jnp.float32), jnp.float32(1))
    metrics["skipped_in_a_row"] = (skipped.in_a_row.astype(jnp.float32), jnp.float32(1))
    state = state.replace(weights=weights, opt_state=opt_state, skipped=skipped, iteration=state.iteration + 1)
    # Laid out as it came: under another layout the next call would compile again.
    sample = jax.tree.map(lambda x: x[:: config.group][:SAMPLED], rollout.readable(trajectory))
    return sharding.constrain(state), *sharding.replicate((metrics, sample))


def make_targets(
    program: Program, trained: Weights, frozen: Frozen, tables: Tables, dialogue: rollout.Dialogue, reward_B: jax.Array
) -> tuple[objective.Targets, losses.Metrics]:
    """The targets of an iteration's updates; the model is run only for what the algorithm needs."""
    config, algorithm = program.config, program.algorithm
    # The learner's token slots of an episode in order, [B, N].
    sampled, sampler_log_probs = (x.reshape(x.shape[0], -1) for x in (dialogue.sampled_BxKxW, dialogue.log_probs_BxKxW))

    def score(weights):
        """In parts as large as a micro-batch, since a whole batch need not fit."""
        parts = cut(dialogue, config.minibatches * config.micro_batches)
        scores = jax.lax.map(lambda part: program.score(weights, tables, part), parts)
        return jax.tree.map(lambda x: x.reshape(sampled.shape), scores)

    old = score(program.whole(trained, frozen)) if algorithm.rescores else None
    reference = None if algorithm.kl == "none" else score(program.reference(frozen)).log_probs
    return objective.make_targets(algorithm, config.group, reward_B, sampled, sampler_log_probs, old, reference)


def episode_loss(
    program: Program, tables: Tables, frozen: Frozen, trained: Weights, batch: tuple, width: int | None = None
) -> tuple[losses.Pair, losses.Metrics]:
    """The objective on some episodes, (`Dialogue`, `Targets`); width as in `scoring.score_messages`."""
    dialogue, targets = batch
    scores = program.score(program.whole(trained, frozen), tables, dialogue, width)
    return objective.loss(program.algorithm, scores, targets)
