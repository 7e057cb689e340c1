"""A player that says given tokens."""

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.game.types import BUYER, End
from negot_jax.language import constrain
from negot_jax.rl import players


@struct.dataclass
class Recital(players.Player):
    """said_KxW: int32, of which the first lengths_K of a turn's are said; the same in every row."""

    said_KxW: jax.Array
    lengths_K: jax.Array
    role: int = struct.field(pytree_node=False, default=BUYER)
    keeps_dialogue = True

    def speak(self, key, tables, memory, turn, state):
        B = state.turn.size
        said = jnp.broadcast_to(self.said_KxW[turn], (B, self.said_KxW.shape[1]))
        lengths = jnp.where(state.end == End.ONGOING, self.lengths_K[turn], 0)
        return memory, players.Message(
            said, lengths, jnp.zeros(B, bool), jnp.zeros(said.shape), jnp.full(said.shape, constrain.FORCED)
        )
