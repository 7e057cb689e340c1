"""The problem that the solvers of this package take."""

from flax import struct

from negot_jax.game.sellers import Seller
from negot_jax.game.types import GameParams, Products
from negot_jax.solvers import market
from negot_jax.solvers.utilities import Utility


@struct.dataclass
class Problem:
    """A scripted seller, and what a buyer wants from it. Products and discount are data, the rest is static under jit.

    products: the prior; all rows are equally likely. turns: the turn limit. utility: the buyer's, of a deal.
    discount: factor in (0, 1] per completed round before the deal.
    """

    seller: Seller = struct.field(pytree_node=False)
    products: Products
    turns: int = struct.field(pytree_node=False)
    utility: Utility = struct.field(pytree_node=False)
    discount: float = 1.0

    @property
    def params(self) -> GameParams:
        return GameParams(self.products, self.turns)

    @property
    def unit(self) -> market.Unit:
        """The list price and budget that all products share, if they do: see `market.unit`. Not under jit."""
        return market.unit(self.products)
