"""The message grammar on token ids: automata composed once with a vocabulary, then read inside the program.

`automaton` defines what the bytes mean, and `phrases` what argues; nothing is ever decoded to text. `advance` and all
that read take one message; batch them with `jax.vmap`.
"""

import collections
from collections.abc import Sequence
import contextlib
import hashlib
import pathlib

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax import cache
from negot_jax.game.types import BUYER, MAX_PRICE, NONE, Action, Kind
from negot_jax.language import automaton, phrases
from negot_jax.language.automaton import CAP, KEEP, Content, Tag, Verdict

_STATE, _SHIFT = np.uint32(0xFFFF), 16  # The bits of a step of `Acts` that hold a state; the others hold arguments.

Steps = collections.namedtuple("Steps", automaton.STEP.names)


@struct.dataclass
class Acts:
    """The automaton of `phrases` over tokens, which hears a message's arguments. S, V and K as of `Grammar`.

    step_SxK: uint32, the next state in the low 16 bits, and above it the arguments completed on the way there.
    class_V: the tokens' classes. last_S: uint32, the arguments that are complete if the talk ends here.
    """

    step_SxK: Array
    class_V: Array
    last_S: Array


@struct.dataclass
class Grammar:
    """The automata over tokens. S states, V tokens, K classes of tokens that do the same in every state.

    steps_SxK: what a class does, but for the bytes that it adds to the codename. class_V: the tokens' classes.
    code_multiplier_V, code_addend_V: uint32, what a token that extends the codename does to its hash.
    """

    steps_SxK: Steps
    class_V: Array
    code_multiplier_V: Array
    code_addend_V: Array
    acts: Acts


@struct.dataclass
class Registers:
    """How far one message has been read: int32 state and `Tag`, bool done, int32 value, uint32 code."""

    state: Array
    tag: Array
    done: Array
    value: Array
    code: Array


@struct.dataclass
class Parsed:
    """One message as read: its action, and the visible tokens, bool[L].

    A token is visible if it has bytes and all of them are content of talk, or all content of an action line.
    """

    action: Action
    talk_L: Array
    action_L: Array


def build(token_bytes: Sequence[bytes]) -> Grammar:
    """Composes the automata with V byte strings, b"" for control tokens. Raises TypeError for anything else."""
    for token, text in enumerate(token_bytes):
        if not isinstance(text, bytes):
            raise TypeError(f"token_bytes[{token}] is {text!r}, not bytes: give the raw bytes, b'' for control tokens")
    columns, class_of = automaton.classes(
        token_bytes, automaton.identity(), lambda column, byte: automaton.compose(column, automaton.TABLE[:, byte])
    )
    extending = [np.flatnonzero(column["extend"]) for column in columns]
    code = np.empty((len(token_bytes), 2), np.uint32)
    for token, text in enumerate(token_bytes):
        states = extending[class_of[token]]
        part = automaton.codename_part(text, int(states[0])) if states.size else b""
        code[token] = automaton.hash_step(part)
    table_SxK = np.stack(columns, axis=1)
    return Grammar(
        steps_SxK=Steps(**{field: jnp.asarray(table_SxK[field]) for field in automaton.STEP.names}),
        class_V=jnp.asarray(class_of, np.min_scalar_type(len(columns) - 1)),
        code_multiplier_V=jnp.asarray(code[:, 0]),
        code_addend_V=jnp.asarray(code[:, 1]),
        acts=build_acts(token_bytes),
    )


def build_acts(token_bytes: Sequence[bytes]) -> Acts:
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


def load(token_bytes: Sequence[bytes], folder: pathlib.Path) -> Grammar:
    """Returns `build(token_bytes)`, read from `folder` if an earlier call has stored it: building may take seconds.

    The file is named by a digest of the vocabulary and the automata. A damaged file is rebuilt; if the folder cannot be
    written, nothing is stored.
    """
    path = folder / f"grammar_{_digest(token_bytes)}.npz"
    try:
        return _read(path)
    except Exception:  # Absent, or damaged; NumPy raises nearly anything for the latter.
        tables = build(token_bytes)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with cache.replacing(path) as part, part.open("xb") as file:
            np.savez(file, *jax.tree.leaves(tables))
    return tables


def _read(path: pathlib.Path) -> Grammar:
    structure = jax.tree.structure(Grammar(Steps(*automaton.STEP.names), 0, 0, 0, Acts(0, 0, 0)))
    with np.load(path) as arrays:
        return jax.tree.unflatten(structure, map(jnp.asarray, arrays.values()))


def _digest(token_bytes: Sequence[bytes]) -> str:
    sizes = np.array([len(text) for text in token_bytes], np.int64)
    tables = (automaton.TABLE, np.asarray(automaton.hash_step(b"a")), *phrases.automaton(), sizes)
    return hashlib.sha256(b"".join([*(table.tobytes() for table in tables), *token_bytes])).hexdigest()[:32]


def start() -> Registers:
    """The registers before the first token of a message."""
    return Registers(jnp.int32(automaton.START), jnp.int32(Tag.NO_LINE), jnp.bool_(False), jnp.int32(0), jnp.uint32(0))


def advance(grammar: Grammar, registers: Registers, token: Array, token_class: Array) -> tuple[Registers, Steps]:
    """The registers after one more token, an int32 id, and what its class does to them."""
    step = jax.tree.map(lambda table: table[registers.state, token_class], grammar.steps_SxK)
    code = jnp.where(step.reset, 0, registers.code)
    extended = code * grammar.code_multiplier_V[token] + grammar.code_addend_V[token]
    after = Registers(
        state=step.next.astype(jnp.int32),
        tag=jnp.where(step.tag == KEEP, registers.tag, step.tag.astype(jnp.int32)),
        done=jnp.where(step.done == KEEP, registers.done, step.done == 1),
        value=_affine(jnp.where(step.reset, 0, registers.value), step.scale, step.add),
        code=jnp.where(step.extend, extended, code),
    )
    return after, step


def _affine(value: Array, scale: Array, add: Array) -> Array:
    """min(value * 10**scale + add, CAP) in int32, which value * 10**scale may not fit."""
    powers = jnp.array([10**i for i in range(len(str(CAP)))], jnp.int32)
    factor = powers[scale]
    return jnp.where(value > (CAP - 1 - add) // factor, CAP, value * factor + add)


def read(registers: Registers, cut: Array, codename_hash: Array, role: Array) -> Action:
    """The action of a message that ends after these registers, without the arguments in its talk.

    cut: bool, whether the message was ended by its token cap. codename_hash: uint32, `automaton.codename_hash` of the
    product's codename; a wrong codename passes if its hash is the same, by chance once in 2**32. role: int32, who
    speaks.
    """
    offer = registers.tag == jnp.where(role == BUYER, Tag.BUY, Tag.SELL)
    deal = registers.tag == Tag.DEAL
    complete = registers.done & (registers.value <= MAX_PRICE) & (registers.code == codename_hash)
    unreadable = jnp.where(registers.tag == Tag.NO_LINE, Kind.MISSING, Kind.UNREADABLE)
    kind = jnp.select(
        [offer & complete, deal & complete, registers.tag == Tag.REJECT, registers.tag == Tag.QUIT, cut],
        [jnp.int32(kind) for kind in (Kind.OFFER, Kind.DEAL, Kind.REJECT, Kind.QUIT, Kind.CUT)],
        unreadable.astype(jnp.int32),
    )
    price = jnp.where((kind == Kind.OFFER) | (kind == Kind.DEAL), registers.value, NONE)
    return Action(kind=kind, price=price, acts=jnp.int32(0))


def parse(grammar: Grammar, tokens_L: Array, length: Array, cut: Array, codename_hash: Array, role: Array) -> Parsed:
    """Reads one whole message; cut, codename_hash and role as for `read`.

    tokens_L: int32, token ids. length: int32, the message's tokens; what stands at and after it is ignored.
    """
    class_L = jnp.where(jnp.arange(tokens_L.size) < length, grammar.class_V[tokens_L], automaton.EMPTY)

    def forward(registers, inputs):
        registers, step = advance(grammar, registers, *inputs)
        return registers, (step.content, step.verdict)

    def backward(before_header, inputs):
        content, verdict = inputs
        talk = (content == Content.TALK) | ((content == Content.MAYBE) & ~before_header)
        return jnp.where(verdict == Verdict.OPEN, before_header, verdict == Verdict.HEADER), talk

    registers, (content_L, verdict_L) = jax.lax.scan(forward, start(), (tokens_L, class_L))
    _, talk_L = jax.lax.scan(backward, jnp.bool_(False), (content_L, verdict_L), reverse=True)
    action = read(registers, cut, codename_hash, role).replace(acts=read_acts(grammar.acts, tokens_L, talk_L))
    return Parsed(action, talk_L, content_L == Content.ACTION)


def read_acts(acts: Acts, tokens_L: Array, talk_L: Array) -> Array:
    """int32, one bit per kind of `Argument`: those made by the tokens at which `talk_L`, bool, holds, read in a row."""
    class_L = jnp.where(talk_L, acts.class_V[tokens_L], automaton.EMPTY)

    def forward(carry, token_class):
        state, made = carry
        step = acts.step_SxK[state, token_class]
        return (step & _STATE, made | step >> _SHIFT), None

    (state, made), _ = jax.lax.scan(forward, (jnp.uint32(0), jnp.uint32(0)), class_L)
    return (made | acts.last_S[state]).astype(jnp.int32)
