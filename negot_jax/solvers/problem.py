"""What the solvers solve: one seller, one prior, one utility."""

from flax import struct

from negot_jax.game.sellers import Seller
from negot_jax.game.types import GameParams, Products
from negot_jax.solvers import market
from negot_jax.solvers.utilities import Utility


@struct.dataclass
class Problem:
    """A scripted seller and what the buyer wants from it. Under jit, products and discount are data, the rest static.

    products: the prior, with equally likely rows. turns: the turn limit. utility: what a deal is worth to the buyer.
    discount: a factor in (0, 1] for each completed round before the deal.
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
        """The list price and budget that all products share: see `market.unit`. Not under jit."""
        return market.unit(self.products)
