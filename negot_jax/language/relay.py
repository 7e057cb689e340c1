"""What one side reads of the other's message: fresh headers and the message's visible tokens, without gaps.

Neither the content nor the length of a Thought leaves a trace in the reader's context.
"""

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from negot_jax.language.grammar import Parsed
from negot_jax.language.tokenizer import Tokenizer


@struct.dataclass
class Relay:
    """talk_H, action_J: int32, the headers' tokens. newline: int32. ends_line_V: bool, tokens that end a line."""

    talk_H: jax.Array
    action_J: jax.Array
    newline: jax.Array
    ends_line_V: jax.Array
    end: int = struct.field(pytree_node=False)

    def width(self, message: int) -> int:
        """Columns that suffice for any message of `message` tokens."""
        return self.talk_H.size + message + 1 + self.action_J.size + 1


def build(tokenizer: Tokenizer, end: int) -> Relay:
    """end: the token that ends a message."""
    return Relay(
        talk_H=jnp.array(tokenizer.encode("Talk:"), jnp.int32),
        action_J=jnp.array(tokenizer.encode("Action:"), jnp.int32),
        newline=jnp.array(tokenizer.single_bytes("\n")[0], jnp.int32),
        ends_line_V=jnp.array(np.array([text.endswith(b"\n") for text in tokenizer.token_bytes])),
        end=end,
    )


def relay(relay: Relay, tokens_W: jax.Array, parsed: Parsed, width: int) -> tuple[jax.Array, jax.Array]:
    """One message as the other side reads it: tokens int32[width], padded on the right, and the length.

    tokens_W: int32, the message. parsed: what the grammar makes of it. width: static, at least `relay.width(W)`. A
    section without visible content has no header; the last token is `relay.end`.
    """
    # Talk before action, each in its order; what stays behind comes last.
    order = jnp.argsort(jnp.select([parsed.talk_L, parsed.action_L], [0, 1], 2), stable=True)
    content_W = tokens_W[order]
    talked, acted = parsed.talk_L.sum(), parsed.action_L.sum()
    broken = (talked > 0) & (acted > 0) & ~relay.ends_line_V[content_W[jnp.maximum(talked - 1, 0)]]
    sizes = jnp.array([relay.talk_H.size, 0, 1, relay.action_J.size, 0, 1])
    sizes = sizes * jnp.array([talked > 0, 0, broken, acted > 0, 0, 1]) + jnp.array([0, talked, 0, 0, acted, 0])
    ends = jnp.cumsum(sizes)
    columns = jnp.arange(width)
    part = jnp.searchsorted(ends, columns, side="right", method="compare_all")
    offset = columns - (ends - sizes).at[part].get(mode="clip")
    read = lambda table, at: table.at[at].get(mode="clip")
    written = jnp.select(
        [part == i for i in range(6)],
        [
            read(relay.talk_H, offset),
            read(content_W, offset),
            jnp.broadcast_to(relay.newline, columns.shape),
            read(relay.action_J, offset),
            read(content_W, talked + offset),
            jnp.full(columns.shape, relay.end),
        ],
        0,
    )
    return written.astype(jnp.int32), ends[-1]
