"""Which arguments a message makes, read on token ids: the automaton of `phrases` composed once with a vocabulary."""

from collections.abc import Sequence

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax.language import automaton, phrases

_STATE, _SHIFT = np.uint32(0xFFFF), 16  # The bits of a step that hold a state; the others hold arguments.


@struct.dataclass
class Acts:
    """The automaton over tokens. S states, V tokens, K classes of tokens that do the same in every state.

    step_SxK: uint32, the next state in the low 16 bits, and above it the arguments completed on the way there.
    class_V: the tokens' classes. last_S: uint32, the arguments that are complete if the talk ends here.
    """

    step_SxK: Array
    class_V: Array
    last_S: Array


def build(token_bytes: Sequence[bytes]) -> Acts:
    """Composes the automaton with a vocabulary: V byte strings, b"" for control tokens, which do nothing."""
    next_Sx256, acts_S = phrases.automaton()
    assert len(acts_S) <= _STATE
    in_word = np.isin(np.arange(256), [*phrases.WORD, *phrases.WORD.upper()])
    step_256xS = np.uint32(next_Sx256.T) | (np.where(in_word[:, None], 0, acts_S).astype(np.uint32) << _SHIFT)

    def then(column_S: np.ndarray, byte: int) -> np.ndarray:
        return step_256xS[byte, column_S & _STATE] | (column_S & ~_STATE)

    columns, class_of = automaton.classes(token_bytes, np.arange(len(acts_S), dtype=np.uint32), then)
    return Acts(
        step_SxK=jnp.asarray(np.stack(columns, axis=1)),
        class_V=jnp.asarray(class_of, np.min_scalar_type(len(columns) - 1)),
        last_S=jnp.asarray(acts_S, jnp.uint32),
    )


def read(acts: Acts, tokens_L: Array, talk_L: Array) -> Array:
    """int32, one bit per kind of `Argument`: those made by the tokens at which `talk_L`, bool, holds, read in a row."""
    class_L = jnp.where(talk_L, acts.class_V[tokens_L], automaton.EMPTY)

    def forward(carry, token_class):
        state, made = carry
        step = acts.step_SxK[state, token_class]
        return (step & _STATE, made | step >> _SHIFT), None

    (state, made), _ = jax.lax.scan(forward, (jnp.uint32(0), jnp.uint32(0)), class_L)
    return (made | acts.last_S[state]).astype(jnp.int32)
