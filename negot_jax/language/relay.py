"""What one side reads of the other's message: fresh headers and the message's visible tokens, without gaps.

Neither the content nor the length of a Thought leaves a trace in the reader's context, nor does a newline before it:
the newlines at the end of a section are left out.
"""

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.language.grammar import Parsed
from negot_jax.language.tokenizer import Tokenizer


@struct.dataclass
class Relay:
    """talk_H, action_J: int32, the headers' tokens. newline: int32.

    bare_V: int32, the token without the newlines at its end; itself if there is none, -1 for newlines alone.
    """

    talk_H: jax.Array
    action_J: jax.Array
    newline: jax.Array
    bare_V: jax.Array
    end: int = struct.field(pytree_node=False)

    def width(self, message: int) -> int:
        """Columns that suffice for any message of `message` tokens."""
        return self.talk_H.size + message + 1 + self.action_J.size + 1


def build(tokenizer: Tokenizer, end: int) -> Relay:
    """end: the token that ends a message."""
    tokens = list(enumerate(tokenizer.token_bytes))
    spelled = {text: token for token, text in reversed(tokens)} | {b"": -1}
    bare = [spelled.get(text.rstrip(b"\n"), token) if text.endswith(b"\n") else token for token, text in tokens]
    return Relay(
        talk_H=jnp.array(tokenizer.encode("Talk:"), jnp.int32),
        action_J=jnp.array(tokenizer.encode("Action:"), jnp.int32),
        newline=jnp.array(tokenizer.single_bytes("\n")[0], jnp.int32),
        bare_V=jnp.array(bare, jnp.int32),
        end=end,
    )


def relay(relay: Relay, tokens_W: jax.Array, parsed: Parsed, width: int) -> tuple[jax.Array, jax.Array]:
    """One message as the other side reads it: tokens int32[width], padded on the right, and the length.

    tokens_W: int32, the message. parsed: what the grammar makes of it. width: static, at least `relay.width(W)`. A
    section without visible content has no header; the last token is `relay.end`.
    """
    talk_W, talk_ends_W = _ended(relay, tokens_W, parsed.talk_L)
    action_W, action_ends_W = _ended(relay, tokens_W, parsed.action_L)
    tokens_W = jnp.where(talk_ends_W | action_ends_W, relay.bare_V[tokens_W], tokens_W)
    # Talk before action, each in its order; what stays behind comes last.
    order = jnp.argsort(jnp.select([talk_W, action_W], [0, 1], 2), stable=True)
    content_W = tokens_W[order]
    talked, acted = talk_W.sum(), action_W.sum()
    both = (talked > 0) & (acted > 0)
    headers = (relay.talk_H.size * (talked > 0), relay.action_J.size * (acted > 0))
    sizes = jnp.array([headers[0], talked, both, headers[1], acted, 1])
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


def _ended(relay: Relay, tokens_W: jax.Array, marks_W: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The marks of a section up to its last token that is more than newlines, and that token's own, bool."""
    columns = jnp.arange(tokens_W.size)
    last = jnp.max(jnp.where(marks_W & (relay.bare_V[tokens_W] >= 0), columns, -1))
    return marks_W & (columns <= last), columns == last
