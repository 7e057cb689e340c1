"""Rollouts: two seats speak in turn, for a batch of episodes, on the device and in token ids from end to end.

Rows are episodes, scenario by scenario: row p * G + g is member g of the group of scenario p.
Shape suffixes: P scenarios, G members of a group, B = P * G rows, K turns, W columns of a message, T all columns.
"""

import functools
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.game import bargaining
from negot_jax.game.types import BUYER, SELLER, Action, End, GameState, Scenario
from negot_jax.language import constrain, grammar, relay
from negot_jax.rl.players import Chunk, Message, Player, Spoken, scripted_seller, stages, write
from negot_jax.rl.tables import Tables


@struct.dataclass
class Dialogue:
    """A batch of finished episodes as one seat's model reads them, in the columns of its `Layout`.

    tokens_BxT: int32. valid_BxT: bool, False for padding and for what the model does not read. A buyer's dialogue ends
    with the last reply, which nobody reads. sampled_BxKxW: bool, the seat's own tokens.
    log_probs_BxKxW, choices_BxKxW: as in `Message`. said_BxKxW: int32, the messages as they were said, those that
    regulation withdrew among them. experts_BxSxLxk: of a mixture, the experts that each token that the model read
    passed in each layer.
    """

    tokens_BxT: jax.Array
    valid_BxT: jax.Array
    sampled_BxKxW: jax.Array
    log_probs_BxKxW: jax.Array
    choices_BxKxW: jax.Array
    said_BxKxW: jax.Array
    experts_BxSxLxk: jax.Array | None


@struct.dataclass
class Trajectory:
    """A batch of finished episodes: each seat's dialogue, None where it keeps none, and the final states [B]."""

    buyer: Dialogue | None
    seller: Dialogue | None
    state: GameState

    def dialogue(self, role: int) -> Dialogue | None:
        return self.buyer if role == BUYER else self.seller

    def active(self) -> tuple[jax.Array, jax.Array]:
        """Sampled tokens, and the row-steps of decoding: every row decodes as long as a turn's longest message."""
        lengths = jnp.stack([seat.sampled_BxKxW.sum(axis=2) for seat in (self.buyer, self.seller) if seat])
        steps = lengths.max(axis=1).sum() * lengths.shape[1]
        return lengths.sum(dtype=jnp.float32), steps.astype(jnp.float32)


class Seat(NamedTuple):
    """A player, its memory, and whether the cap ended its last message; None where it keeps no dialogue."""

    player: Player
    memory: object = None
    cut_B: jax.Array | None = None


def sample_scenarios(key: jax.Array, tables: Tables, count: int) -> Scenario:
    """`count` draws of a product and a seller, [P]."""
    return jax.vmap(functools.partial(bargaining.draw, products=tables.params.products))(jax.random.split(key, count))


def rollout(
    key: jax.Array, tables: Tables, scenarios_P: Scenario, group: int, buyer: Player, seller: Player | None = None
) -> Trajectory:
    """Plays every scenario `group` times to its end, by default against the scripted seller of the tables.

    The members of a group differ by what a player draws from `key` alone: see `LanguageModelPlayer.per_scenario`.
    """
    repeat = lambda x: jnp.repeat(x, group, axis=0)
    scenarios_B = jax.tree.map(repeat, scenarios_P)
    state = jax.vmap(lambda scenario: bargaining.reset_to(scenario, tables.params)[1])(scenarios_B)
    turns, players = tables.params.turns, (buyer, scripted_seller(tables) if seller is None else seller)
    seats, openings = zip(*(sit(tables, player, scenarios_P.product, group) for player in players), strict=True)

    def play_turn(carry, turn):
        carried, state = carry
        buyer, seller = (Seat(player, *own) for player, own in zip(players, carried, strict=True))
        buyer, seller, state, bid = move(jax.random.fold_in(key, turn), tables, turn, buyer, seller, state)
        seller, buyer, state, ask = move(jax.random.fold_in(key, turns + turn), tables, turn, seller, buyer, state)
        return ((buyer[1:], seller[1:]), state), (bid, ask)

    history = []
    for stage in stages(tables):
        seats = [seat._replace(memory=seat.player.make_room(tables, seat.memory, stage[-1])) for seat in seats]
        carry = (tuple(seat[1:] for seat in seats), state)
        (carried, state), exchanged = jax.lax.scan(play_turn, carry, jnp.arange(stage.start, stage.stop))
        seats = [Seat(player, *own) for player, own in zip(players, carried, strict=True)]
        history.append(exchanged)
    exchanged = jax.tree.map(lambda *parts: jnp.concatenate(parts), *history)
    (*bids, heard_by_seller), (*asks, heard_by_buyer) = exchanged
    parts = zip(seats, openings, (bids, asks), (heard_by_buyer, heard_by_seller), strict=True)
    dialogues = [opening and _dialogue(seat, Chunk(*map(repeat, opening)), *own) for seat, opening, *own in parts]
    return Trajectory(*dialogues, state)


def move(
    key: jax.Array, tables: Tables, turn: jax.Array, seat: Seat, other: Seat, state: GameState
) -> tuple[Seat, Seat, GameState, tuple[Message | None, Chunk | None, Chunk | None]]:
    """One message of every episode: a seat speaks, its action is played under regulation, the other seat hears it.

    Returns both seats, the new states, and (what was said, what stands in where that was withdrawn, what the other seat
    heard), None for a seat without a dialogue; no stand-in for a side that is not regulated, or in a finished game.
    """
    player, role, listens = seat.player, seat.player.role, other.player.keeps_dialogue
    width = tables.side(1 - role).layout.reply if listens else 0
    memory, said = player.speak(key, tables, seat.memory, turn, state)
    stand_in = None

    if isinstance(said, Action):  # A script's message is written from its action as played, and needs no parsing.
        stepped, played, _ = _step(tables, state, said)
        words = functools.partial(write, tables, role, played, state)
        said = _as_message(words(tables.side(role).layout.message), state) if player.keeps_dialogue else None
        relayed = words(width) if listens else None
    elif isinstance(said, Spoken):  # The listener reads the text, unless regulation withdrew it.
        stepped, played, replaced_B = _step(tables, state, said.action)
        if listens:
            written = write(tables, role, played, state, width)
            relayed = Chunk(*(jnp.where(replaced_B[:, None], *pair) for pair in zip(written, said.heard, strict=True)))
        said = None
    else:
        parsed = read(tables, role, said, state)
        stepped, played, replaced_B = _step(tables, state, parsed.action)
        relayed = _relay(tables, said, parsed, width) if listens else None
        if role == SELLER:  # The one that is regulated. Both sides read what was played in place of what was said.
            columns = tables.side(role).layout.stand_in
            written = write(tables, role, played, state, max(width, columns))
            reads_on_B = replaced_B & (stepped.end == End.ONGOING)
            stand_in = Chunk(written.tokens[:, :columns], written.valid[:, :columns] & reads_on_B[:, None])
            memory = player.withdraw(tables, memory, turn, stand_in)
            said = said.replace(lengths_B=jnp.where(replaced_B, 0, said.lengths_B), cut_B=said.cut_B & ~replaced_B)
            if listens:
                relayed = Chunk(*(jnp.where(replaced_B[:, None], *pair) for pair in zip(written, relayed, strict=True)))
    if player.keeps_dialogue:
        seat = seat._replace(memory=memory, cut_B=said.cut_B)
    if not listens:
        return seat, other, stepped, (said, stand_in, None)
    own_turn = turn + 1 if role == SELLER else turn  # The listener's next one.
    heard = _between(tables, own_turn, other, relayed, stepped)
    other = other._replace(memory=other.player.hear(tables, other.memory, own_turn, heard))
    return seat, other, stepped, (said, stand_in, heard)


def read(tables: Tables, role: int, message: Message, state: GameState) -> grammar.Parsed:
    """Parses the messages of one side, [B]."""
    parse = functools.partial(grammar.parse, tables.grammar, role=role)
    hashes = tables.code_hashes_N[state.scenario.product]
    return jax.vmap(parse)(message.tokens_BxW, message.lengths_B, message.cut_B, hashes)


def _step(tables: Tables, state: GameState, action: Action) -> tuple[GameState, Action, jax.Array]:
    """The new states, the actions as played, and whether regulation stepped in."""
    unused = jax.random.key(0)  # The rules draw nothing at random.

    def step(state, action):
        _, stepped, _, _, info = bargaining.step(unused, state, action, tables.params)
        return stepped, info["action"], info["intervened"]

    return jax.vmap(step)(state, action)


def sit(tables: Tables, player: Player, product_P: jax.Array, group: int) -> tuple[Seat, Chunk | None]:
    """A seat before the first turn, and what it has read, [P, C]: its prompt, and the buyer's its first own header."""
    if not player.keeps_dialogue:
        return Seat(player), None
    side, B = tables.side(player.role), product_P.size * group
    valid = jnp.arange(side.layout.prompt) < side.prompt_lengths_N[product_P][:, None]
    opening = Chunk(side.prompts_NxL[product_P], valid)
    if player.role == BUYER:
        opening = _join(opening, _header(side.own_KxH, 0, product_P.size))
    return Seat(player, player.begin(tables, opening, group), jnp.zeros(B, bool)), opening


def _between(tables: Tables, turn: jax.Array, seat: Seat, relayed: Chunk, state: GameState) -> Chunk:
    """The columns between two messages of a seat, see `Layout`; invalid where the game is over."""
    side, B = tables.side(seat.player.role), relayed.tokens.shape[0]
    cut = jnp.repeat(seat.cut_B[:, None], side.layout.closing, axis=1)
    closing = Chunk(jnp.full(cut.shape, tables.end), cut)
    other, own = (_header(table, turn, B) for table in (side.other_KxJ, side.own_KxH))
    heard = functools.reduce(_join, [closing, other, relayed, own])
    return heard._replace(valid=heard.valid & (state.end == End.ONGOING)[:, None])


def _relay(tables: Tables, message: Message, parsed: grammar.Parsed, width: int) -> Chunk:
    """What the other side reads of messages."""
    visible = functools.partial(relay.relay, tables.relay, width=width)
    tokens, lengths_B = jax.vmap(visible)(message.tokens_BxW, parsed)
    return Chunk(tokens, jnp.arange(width) < lengths_B[:, None])


def _as_message(written: Chunk, state: GameState) -> Message:
    """A script's messages, silent where the game is over."""
    lengths_B = jnp.where(state.end == End.ONGOING, written.valid.sum(axis=1), 0)
    shape = written.tokens.shape
    uncut, forced = jnp.zeros(lengths_B.shape, bool), jnp.full(shape, constrain.FORCED)
    return Message(written.tokens, lengths_B, uncut, log_probs_BxW=jnp.zeros(shape), choices_BxW=forced)


def _header(table_KxH: jax.Array, turn: jax.Array | int, B: int) -> Chunk:
    header_H = table_KxH.at[turn].get(mode="clip")
    header_BxH = jnp.broadcast_to(header_H, (B, header_H.size))
    return Chunk(jnp.maximum(header_BxH, 0), header_BxH >= 0)


def _join(first: Chunk, second: Chunk) -> Chunk:
    return Chunk(*(jnp.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)))


def _dialogue(seat: Seat, prompt: Chunk, spoken: tuple[Message, Chunk | None], heard: Chunk) -> Dialogue:
    """All columns of one seat, from its prompt and, by turn [K, B, ...], its messages and what it heard."""
    (said, stand_in), heard = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), (spoken, heard))
    B, _, W = said.tokens_BxW.shape
    spoken_BxKxW = jnp.arange(W) < said.lengths_B[..., None]
    slot = Chunk(said.tokens_BxW, spoken_BxKxW)
    if stand_in is not None:
        tokens, valid = (jnp.pad(x, ((0, 0), (0, 0), (0, W - x.shape[-1]))) for x in stand_in)
        slot = Chunk(jnp.where(valid.any(axis=2, keepdims=True), tokens, slot.tokens), slot.valid | valid)

    def columns(first, own, other):
        turn = [own, other] if seat.player.role == BUYER else [other, own]
        return jnp.concatenate([first, jnp.concatenate(turn, axis=2).reshape(B, -1)], axis=1)

    return Dialogue(
        tokens_BxT=columns(prompt.tokens, slot.tokens, heard.tokens),
        valid_BxT=columns(prompt.valid, slot.valid, heard.valid),
        sampled_BxKxW=spoken_BxKxW,
        log_probs_BxKxW=said.log_probs_BxW,
        choices_BxKxW=said.choices_BxW,
        said_BxKxW=said.tokens_BxW,
        experts_BxSxLxk=seat.player.routes(seat.memory),
    )


def readable(trajectory: Trajectory) -> Trajectory:
    """The episodes for a reader on the host: without log-probabilities and masks; the keys are their data, uint32."""

    unread = dict(valid_BxT=None, log_probs_BxKxW=None, choices_BxKxW=None, experts_BxSxLxk=None)
    said = lambda dialogue: dialogue and dialogue.replace(**unread)
    scenario = trajectory.state.scenario
    state = trajectory.state.replace(scenario=scenario.replace(key=jax.random.key_data(scenario.key)))
    return Trajectory(said(trajectory.buyer), said(trajectory.seller), state)
