"""Linear schedules of offers: their mean rewards and the best one, by playing them."""

import functools

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax.game import rewards
from negot_jax.game.buyers import Linear, Ramp
from negot_jax.game.money import BP
from negot_jax.game.sellers import Seller
from negot_jax.game.types import GameParams
from negot_jax.solvers.ladders import episodes

PERCENT = BP // 100  # Basis points.
_BATCH = 16  # Schedules per call, so that every stage of a search runs one compiled program.


@functools.partial(jax.jit, static_argnames=("seller", "draws"))
def linear_rewards(
    seller: Seller, starts_S: Array, ends_S: Array, params: GameParams, key: Array, *, draws: int = 1
) -> Array:
    """The mean reward of each linear schedule over `draws` episodes of every product, by playing them, float32[S].

    `starts_S` and `ends_S` are int32 basis points of B. Every schedule meets the same sellers, drawn from `key`.
    """

    def mean_reward(schedule: tuple[Array, Array]) -> Array:
        states = episodes(key, Ramp(*schedule), seller, params, draws)
        return jnp.mean(jax.vmap(rewards.outcome, (0, None))(states, params).reward)

    return jax.lax.map(mean_reward, (starts_S, ends_S), batch_size=_BATCH)


def tune_linear(seller: Seller, params: GameParams, key: Array, *, draws: int = 1) -> tuple[Linear, float]:
    """The best rising linear schedule, to 1 % of B, found by playing.

    Plays a 5 % grid first, then the 1 % grid around its best, since the mean reward is smooth in both ends. Successive
    halving (Karnin et al. 2013) narrows the second grid: the fewer candidates are left, the more draws compare them,
    the same draws for all.

    Args:
      draws: episodes per product and schedule on both grids; the last eight candidates play eight times as many.
    Returns:
      The schedule, and its mean reward on the episodes it was chosen on (optimistic if the seller is noisy).
    """

    def means(schedules_Sx2: np.ndarray, round: int) -> np.ndarray:
        """float64[S], on the draws of one round."""
        padded = np.resize(schedules_Sx2, (-(-len(schedules_Sx2) // _BATCH) * _BATCH, 2)) * PERCENT
        drawn = jax.random.fold_in(key, round)
        parts = [linear_rewards(seller, *part.T, params, drawn, draws=draws) for part in padded.reshape(-1, _BATCH, 2)]
        return np.concatenate(parts).astype(np.float64)[: len(schedules_Sx2)]

    coarse = np.stack(np.triu_indices(21), axis=1) * 5
    center = coarse[means(coarse, 0).argmax()]
    near = np.stack(np.meshgrid(*(np.arange(at - 5, at + 6) for at in center), indexing="ij"), axis=-1).reshape(-1, 2)
    left = near[(near[:, 0] >= 0) & (near[:, 1] <= 100) & (near[:, 0] <= near[:, 1])]
    total, played = np.zeros(len(left)), 0
    for keep, rounds in ((32, 1), (16, 2), (8, 4), (1, 8)):
        total = total + sum(means(left, round) for round in range(played, rounds))
        played = rounds
        best = np.argsort(-total, kind="stable")[:keep]
        left, total = left[best], total[best]
    (start, end), reward = left[0] / 100, total[0] / played
    return Linear(float(start), float(end)), float(reward)
