"""The optimum against a scripted seller, and a buyer that attains or approaches it."""

import dataclasses

import jax
from jax import Array

from negot_jax.game.buyers import Buyer
from negot_jax.game.sellers import Seller, Stochastic
from negot_jax.game.types import Products
from negot_jax.solvers import backward_induction, belief, information_relaxation, ladders, least_squares, market
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import unsuitable

# Default grids in cents of a list price of $100.00: of the exact solver, the buyer of noisy asks, and the upper bound.
EXACT_STEP, READING_STEP, BOUND_STEP = 1, 200, 100


@dataclasses.dataclass(frozen=True)
class Solution:
    """Mean utilities over the products, and the buyer that earns `lower`.

    exact: lower and upper are both the optimum of the buyer who knows P0, B, the other products and the history.
    Otherwise the optimum lies between them, and lower is what the buyer earned when played. The errors are standard
    errors, to which the error of the grids adds. clairvoyant: of a buyer who also knows cost and type.
    """

    lower: float
    lower_error: float
    upper: float
    upper_error: float
    clairvoyant: float
    exact: bool
    buyer: Buyer


def unsupported(seller: Seller, products: Products, reward: str = "paper", step: int | None = None) -> str | None:
    """Why there is no best response to `seller`, in one line, or None if `solve` finds one. Solves nothing.

    Args:
      products, step: as for `solve`.
      reward: a key of `rewards.REWARDS`.
    """
    try:
        _require_solvable(seller, products, step)
    except ValueError as error:
        return str(error)
    return unsuitable(reward, products)


def _require_solvable(seller: Seller, products: Products, step: int | None) -> None:
    if seller.hears:
        raise ValueError(f"{seller} has no solver: it responds to words, and the solvers model prices alone")
    if seller.monotone:
        market.price_grid(market.unit(products), step or EXACT_STEP)
    elif isinstance(seller, Stochastic):
        for grid in (READING_STEP, BOUND_STEP):
            belief.price_grid(seller, products, step or grid)
    else:
        raise ValueError(f"{seller} has no solver: it is neither monotone nor a Stochastic")


def solve(key: Array, problem: Problem, *, step: int | None = None) -> Solution:
    """The best response to the seller, by the method that fits it.

    Args:
      problem: its products have one list price and budget.
      step: of the grid of prices, cents; None for the method's default.
    Raises:
      ValueError: the seller has no solver, or the products, the discount or the step do not fit: see `unsupported`.
    """
    if not 0 < problem.discount <= 1:
        raise ValueError(f"discount={problem.discount}: a factor per round must be in (0, 1]")
    _require_solvable(problem.seller, problem.products, step)
    if problem.seller.monotone:
        value, clairvoyant, buyer = backward_induction.solve(problem, step=step or EXACT_STEP)
        return Solution(value, 0.0, value, 0.0, clairvoyant, True, buyer)
    key_fit, key_play, key_bound = jax.random.split(key, 3)
    buyer = least_squares.solve(key_fit, problem, step or READING_STEP)
    lower = ladders.mean_utility(key_play, buyer, problem)
    clairvoyant = information_relaxation.clairvoyant(problem)
    upper = min(information_relaxation.told_asks(key_bound, problem, step or BOUND_STEP), (clairvoyant, 0.0))
    return Solution(*lower, *upper, clairvoyant, False, buyer)
