"""The optimum against any scripted seller, and a buyer for it."""

import dataclasses

import jax
from jax import Array

from negot_jax.game.play import Buyer
from negot_jax.game.sellers import Floor, Seller, Stochastic, TimeDependent
from negot_jax.game.types import GameParams, Products
from negot_jax.solvers import backward_induction, information_relaxation, least_squares, playing
from negot_jax.solvers.utilities import Utility

# Cents of a list price of $100.00: of the exact solver, of the buyer that reads noisy asks, and of the upper bound.
EXACT_STEP, READING_STEP, BOUND_STEP = 1, 200, 100


@dataclasses.dataclass(frozen=True)
class Solution:
    """Mean utilities over the products, and the buyer that earns `lower`.

    exact: lower and upper are both the optimum of the buyer who knows P0, B, the other products and the history.
    Otherwise that optimum lies between them, lower being what the buyer earned when it was played. The errors are
    standard errors; the grid's error comes on top. clairvoyant: of a buyer who knows cost and type as well.
    """

    lower: float
    lower_error: float
    upper: float
    upper_error: float
    clairvoyant: float
    exact: bool
    buyer: Buyer


def solve(
    key: Array,
    seller: Seller,
    products: Products,
    turns: int,
    utility: Utility,
    *,
    discount: float = 1.0,
    step: int | None = None,
) -> Solution:
    """The best response to `seller`, by the method that fits it.

    Args:
      products: the prior, of one list price and budget.
      discount: factor a completed round before the deal.
      step: of the grid of prices, cents; None for the method's own.
    Raises:
      ValueError: there is no solver for the seller, or the products or the step do not fit.
    """
    if not 0 < discount <= 1:
        raise ValueError(f"discount={discount}: a factor a round must be in (0, 1]")
    match seller:
        case Floor() | TimeDependent():
            value, clairvoyant, buyer = backward_induction.solve(
                seller, products, turns, utility, discount=discount, step=step or EXACT_STEP
            )
            return Solution(value, 0.0, value, 0.0, clairvoyant, True, buyer)
        case Stochastic():
            key_fit, key_play, key_bound = jax.random.split(key, 3)
            problem = (seller, products, turns, utility)
            buyer = least_squares.solve(key_fit, *problem, discount=discount, step=step or READING_STEP)
            lower = playing.mean_utility(
                key_play, buyer, seller, GameParams(products, turns), utility, discount=discount
            )
            upper = information_relaxation.told_asks(key_bound, *problem, discount=discount, step=step or BOUND_STEP)
            clairvoyant = information_relaxation.clairvoyant(seller, products, utility)
            return Solution(*lower, *upper, clairvoyant, False, buyer)
    raise ValueError(f"{seller} has no solver; Floor, TimeDependent and Stochastic have")
