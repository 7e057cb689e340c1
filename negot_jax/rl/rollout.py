"""Playing a batch of episodes: both sides speak turn by turn, on the device, in token ids from end to end.

Rows are episodes, scenario by scenario: row p * G + g is member g of the group of scenario p.

Shape suffixes: P scenarios, G members of a group, B = P * G rows, K turns, W columns of a message, T all columns.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.game import bargaining, sellers
from negot_jax.game.types import BUYER, SELLER, Action, End, GameState, Scenario
from negot_jax.language import grammar
from negot_jax.language import relay as relays
from negot_jax.rl.players import Chunk, Message, Player, render_action
from negot_jax.rl.tables import Side, Tables


@struct.dataclass
class Dialogue:
    """A batch of finished episodes as one side's model reads them, in the columns of its `Layout`.

    tokens_BxT: int32. valid_BxT: bool, False for padding and for what the model does not read. A buyer's dialogue goes
    on with the last reply, which nobody reads. sampled_BxKxW: bool, the side's own tokens.
    log_probs_BxKxW, choices_BxKxW: as in `Message`.
    """

    tokens_BxT: jax.Array
    valid_BxT: jax.Array
    sampled_BxKxW: jax.Array
    log_probs_BxKxW: jax.Array
    choices_BxKxW: jax.Array


@struct.dataclass
class Trajectory:
    """A batch of finished episodes: as the buyer reads them; as the seller does, where it reads; final states [B]."""

    buyer: Dialogue
    seller: Dialogue | None
    state: GameState


def sample_scenarios(key: jax.Array, tables: Tables, count: int) -> Scenario:
    """`count` draws of a product and a seller, [P]."""
    return jax.vmap(functools.partial(bargaining.draw, products=tables.params.products))(jax.random.split(key, count))


def rollout(
    key: jax.Array, tables: Tables, scenarios_P: Scenario, group: int, buyer: Player, seller: Player | None = None
) -> Trajectory:
    """Plays every scenario `group` times to its end.

    The members of a group meet the same seller with the same noise; they differ by the buyer's sampling alone.

    Args:
      seller: who speaks for the seller; None for the scripted one, `tables.script`, which reads no text.
    """
    repeat = lambda x: jnp.repeat(x, group, axis=0)
    state = jax.vmap(lambda scenario: bargaining.reset_to(scenario, tables.params)[1])(
        jax.tree.map(repeat, scenarios_P)
    )
    prompt = _prompt(tables.buyer, scenarios_P.product)
    prompt = _join(prompt, _header(tables.buyer.own_KxH, jnp.zeros(prompt.tokens.shape[0], jnp.int32)))
    buyer_memory = buyer.begin(tables, prompt, group)
    if seller is not None:
        seller_prompt = _prompt(tables.seller, scenarios_P.product)
        seller_memory = (seller.begin(tables, seller_prompt, group), _nothing_said(tables, state))

    def play_turn(carry, turn):
        buyer_memory, seller_memory, state = carry
        buyer_memory, said = buyer.speak(jax.random.fold_in(key, turn), tables, buyer_memory, turn, state)
        parsed = read(tables, BUYER, said, state)
        state, _ = _step(tables, state, parsed.action)
        if seller is None:
            state, heard, answered = _scripted_answer(tables, state, said)
        else:
            copy = _relay(tables, said, parsed, tables.seller.layout.reply)
            seller_memory, state, heard, answered = _answer(tables, seller, seller_memory, turn, state, said, copy)
        buyer_memory = buyer.hear(tables, buyer_memory, turn + 1, heard)
        return (buyer_memory, seller_memory, state), ((said, heard), answered)

    carry = (buyer_memory, None if seller is None else seller_memory, state)
    (_, _, state), (spoken, answered) = jax.lax.scan(play_turn, carry, jnp.arange(tables.params.turns))
    first = Chunk(*map(repeat, prompt))
    buyers = _dialogue(first, *spoken)
    if seller is None:
        return Trajectory(buyers, None, state)
    message, heard = answered
    return Trajectory(buyers, _dialogue(Chunk(*map(repeat, seller_prompt)), message, heard, heard_first=True), state)


def read(tables: Tables, role: int, message: Message, state: GameState) -> grammar.Parsed:
    """The messages of one side, [B], as the grammar reads them."""
    parse = functools.partial(grammar.parse, tables.grammar, role=role)
    hashes = tables.code_hashes_N[state.scenario.product]
    return jax.vmap(parse)(message.tokens_BxW, message.lengths_B, message.cut_B, hashes)


def _step(tables: Tables, state: GameState, action: Action) -> tuple[GameState, jax.Array]:
    """The new states, and whether regulation stepped in."""
    # The rules draw nothing at random; `step` takes a key because every environment's does.
    unused = jax.random.key(0)

    def step(state, action):
        _, stepped, _, _, info = bargaining.step(unused, state, action, tables.params)
        return stepped, info["intervened"]

    return jax.vmap(step)(state, action)


def _played(stepped: GameState, before: GameState) -> Action:
    """The seller's actions as they were played, [B]."""
    rows = jnp.arange(before.turn.size)
    kind, price = (x[rows, before.turn, SELLER] for x in (stepped.kinds, stepped.prices))
    return Action(kind=kind, price=price, acts=jnp.zeros_like(kind))


def _scripted_answer(tables: Tables, state: GameState, said: Message) -> tuple[GameState, Chunk, None]:
    """The scripted seller answers: the new states, and what the buyer hears."""
    action = jax.vmap(lambda s: sellers.respond(tables.script, s, tables.params))(state)
    stepped, _ = _step(tables, state, action)
    reply, lengths = render_action(tables, SELLER, _played(stepped, state), state, tables.buyer.layout.reply)
    return stepped, _hear(tables.buyer, tables.end, state.turn + 1, said, None, reply, lengths, stepped), None


def _answer(
    tables: Tables,
    seller: Player,
    memory: tuple[object, tuple[Message, Chunk]],
    turn: jax.Array,
    state: GameState,
    said: Message,
    copy: tuple[jax.Array, jax.Array],
):
    """A seller that reads answers: its memory, the new states, what the buyer hears, and (message, what it heard).

    An illegal message is withdrawn from its own context, and what regulation puts in its place stands there instead.
    """
    memory, (before, stand_in) = memory
    heard = _hear(tables.seller, tables.end, turn, before, stand_in, *copy, state)
    memory = seller.hear(tables, memory, turn, heard)
    memory, message = seller.speak(None, tables, memory, turn, state)
    parsed = read(tables, SELLER, message, state)
    stepped, intervened_B = _step(tables, state, parsed.action)
    memory = seller.withdraw(tables, memory, turn, intervened_B)
    own, own_lengths = _relay(tables, message, parsed, tables.buyer.layout.reply)
    lengths_B = jnp.where(intervened_B, 0, message.lengths_B)
    message = message.replace(lengths_B=lengths_B, cut_B=message.cut_B & ~intervened_B)

    replaced, lengths = render_action(tables, SELLER, _played(stepped, state), state, tables.seller_book.width)
    stand_in = Chunk(replaced, (jnp.arange(replaced.shape[1]) < lengths[:, None]) & intervened_B[:, None])
    replaced = jnp.pad(replaced, ((0, 0), (0, own.shape[1] - replaced.shape[1])))
    reply = jnp.where(intervened_B[:, None], replaced, own)
    reply_lengths = jnp.where(intervened_B, lengths, own_lengths)
    to_buyer = _hear(tables.buyer, tables.end, turn + 1, said, None, reply, reply_lengths, stepped)
    return (memory, (message, stand_in)), stepped, to_buyer, (message, heard)


def _nothing_said(tables: Tables, state: GameState) -> tuple[Message, Chunk]:
    """What the seller's last message and its stand-in are before it has spoken."""
    B, layout = state.turn.size, tables.seller.layout
    nothing = jnp.zeros((B, layout.message), jnp.int32)
    none_B = jnp.zeros(B, bool)
    message = Message(nothing, jnp.zeros(B, jnp.int32), none_B, nothing.astype(jnp.float32), nothing)
    return message, Chunk(jnp.zeros((B, layout.withdrawn), jnp.int32), jnp.zeros((B, layout.withdrawn), bool))


def _relay(tables: Tables, message: Message, parsed: grammar.Parsed, width: int) -> tuple[jax.Array, jax.Array]:
    """What the other side reads of messages, and its lengths."""
    return jax.vmap(functools.partial(relays.relay, tables.relay, width=width))(message.tokens_BxW, parsed)


def _hear(
    side: Side,
    end: int,
    turn_B: jax.Array,
    before: Message,
    stand_in: Chunk | None,
    reply: jax.Array,
    lengths: jax.Array,
    state: GameState,
) -> Chunk:
    """The columns between two messages of a side, see `Layout`; nothing where the game is over.

    Args:
      before: its last message. stand_in: what that was replaced by. reply, lengths: the other side's message.
    """
    turn_B = jnp.broadcast_to(turn_B, before.cut_B.shape)
    cut = jnp.repeat(before.cut_B[:, None], side.layout.closing, axis=1)
    chunks = [Chunk(jnp.full(cut.shape, end), cut)]
    chunks += [] if stand_in is None else [stand_in]
    chunks += [
        _header(side.other_KxJ, turn_B),
        Chunk(reply, jnp.arange(reply.shape[1]) < lengths[:, None]),
        _header(side.own_KxH, turn_B),
    ]
    heard = functools.reduce(_join, chunks)
    return heard._replace(valid=heard.valid & (state.end == End.ONGOING)[:, None])


def _prompt(side: Side, product_P: jax.Array) -> Chunk:
    valid = jnp.arange(side.layout.prompt) < side.prompt_lengths_N[product_P][:, None]
    return Chunk(side.prompts_NxL[product_P], valid)


def _header(table_KxH: jax.Array, turn_B: jax.Array) -> Chunk:
    header = table_KxH.at[turn_B].get(mode="clip")
    return Chunk(jnp.maximum(header, 0), header >= 0)


def _join(first: Chunk, second: Chunk) -> Chunk:
    return Chunk(*(jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)))


def _dialogue(prompt: Chunk, said: Message, heard: Chunk, heard_first: bool = False) -> Dialogue:
    """All columns of one side, from its prompt and, by turn [K, B, ...], its messages and what it heard."""
    said, heard = (jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), by_turn) for by_turn in (said, heard))
    spoken_BxKxW = jnp.arange(said.tokens_BxW.shape[-1]) < said.lengths_B[..., None]
    B = spoken_BxKxW.shape[0]

    def columns(first, own, other):
        turn = [other, own] if heard_first else [own, other]
        return jnp.concatenate([first, jnp.concatenate(turn, axis=2).reshape(B, -1)], axis=1)

    return Dialogue(
        tokens_BxT=columns(prompt.tokens, said.tokens_BxW, heard.tokens),
        valid_BxT=columns(prompt.valid, spoken_BxKxW, heard.valid),
        sampled_BxKxW=spoken_BxKxW,
        log_probs_BxKxW=said.log_probs_BxW,
        choices_BxKxW=said.choices_BxW,
    )
