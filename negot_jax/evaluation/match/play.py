"""Plays a match turn by turn: the rules and the models on the device, all other players in text.

Each message goes through `rollout.move`, as in training and in the arena. Two players of the device meet as they do in
the arena: the same draws, tokens and episodes, up to rounding.

Shape suffixes as in `rollout`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from negot_jax import progress
from negot_jax.catalog import Catalog
from negot_jax.evaluation import arena, recording
from negot_jax.evaluation.episodes import Episode, Message
from negot_jax.evaluation.match.seats import DeviceSeat, Line, Read, ScriptedBuyer, Spoke, TextSeat, View
from negot_jax.game import bargaining
from negot_jax.game.types import BUYER, NONE, SELLER, Action, End, GameState, Kind, Scenario
from negot_jax.language import plain, prompts
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.rl import rollout
from negot_jax.rl.players import Chunk, Player, Spoken, stages, write
from negot_jax.rl.rollout import Seat
from negot_jax.rl.tables import Tables

INCOMPLETE = -2  # In place of an `End`: the episode is over without a result.


@dataclasses.dataclass(frozen=True)
class Table:
    """Where a match is played. caps: of a message in text, in tokens, by role. batch: episodes played at once.

    facts: fields that every `Episode` of the match has alike.
    """

    tables: Tables
    catalog: Catalog
    tokenizer: Tokenizer
    caps: tuple[int, int]
    batch: int
    facts: Mapping[str, Any]


@struct.dataclass
class _Board:
    """A batch of episodes in play. carried: what each seat carries from turn to turn, by role, see `rollout.Seat`."""

    state: GameState
    carried: tuple


Seated = tuple[DeviceSeat | TextSeat, DeviceSeat | TextSeat]  # Buyer and seller.


def play(table: Table, seated: Seated, key: jax.Array, drawn: Scenario) -> list[Episode]:
    """Plays all scenarios, product by product, to their ends. key: the arena's `key_buyers`."""
    count, states, messages, failures = drawn.product.size, [], [], []
    keys = jax.random.split(key, count)
    order = np.asarray(drawn.product)
    numbers = np.arange(count) - np.searchsorted(order, order)  # Which of its product's episodes each row is.
    parts = arena.batches(drawn, table.batch, key)
    with progress.Bar("messages", total=2 * table.tables.params.turns * len(parts)) as bar:
        for first, (key_batch, rows) in zip(range(0, count, table.batch), parts, strict=True):
            own_keys = keys[(first + jnp.arange(table.batch)) % count]
            game = _Game(table, seated, own_keys, rows, numbers[first : first + table.batch])
            states.append(game.play(key_batch, bar))
            messages += game.messages
            failures += game.failures.values()
    facts = {"persona": table.tables.script.persona.name, **table.facts}
    return recording.episodes(arena.joined(states, count), messages, failures, table.tables, table.catalog, facts)


class _Game:
    """One batch. The rows after the last of `numbers` only fill it up: nobody is asked for them."""

    def __init__(self, table: Table, seated: Seated, keys: jax.Array, drawn: Scenario, numbers: np.ndarray):
        self.table, self.numbers = table, numbers
        self.texts = {role: seat for role, seat in enumerate(seated) if isinstance(seat, TextSeat)}
        buyer, seller = (Spoke(role) if role in self.texts else seat for role, seat in enumerate(seated))
        self.seats = (buyer.replace(keys=keys) if isinstance(buyer, ScriptedBuyer) else buyer, seller)
        self.board = _begin(self.seats, table.tables, drawn)
        count = len(numbers)
        self.lines: list[list[list[Line]]] = [[[] for _ in range(count)] for _ in seated]
        self.messages: list[list[Message]] = [[] for _ in range(count)]
        self.failures = dict.fromkeys(range(count), "")

    def play(self, key: jax.Array, bar: progress.Bar) -> GameState:
        """Plays to the end. Returns the final states on the host, their keys as data."""
        tables = self.table.tables
        turns = tables.params.turns
        for stage in stages(tables):
            self.board = _make_room(self.seats, tables, self.board, stage[-1])
            for turn in stage:
                self._message(jax.random.fold_in(key, turn), BUYER, turn)
                bar.update()
                self._message(jax.random.fold_in(key, turns + turn), SELLER, turn)
                bar.update()
        scenario = self.board.state.scenario
        scenario = scenario.replace(key=jax.random.key_data(scenario.key))
        return jax.device_get(self.board.state.replace(scenario=scenario))

    def _message(self, key: jax.Array, role: int, turn: int) -> None:
        """One message of every episode: asked for if its player answers in text, then played and recorded."""
        before = jax.device_get((self.board.state.end, self.board.state.interventions, self.board.state.offers))
        going = [row for row in range(len(self.numbers)) if before[0][row] == End.ONGOING]
        if not going:
            return
        replies, seats = {}, list(self.seats)
        if role in self.texts:
            views = [self._view(row, role, turn, int(before[2][row, 1 - role])) for row in going]
            replies = dict(zip(going, self.texts[role].speak(views), strict=True))
            failed = {row: reply.failure for row, reply in replies.items() if reply.read is None}
            self.failures |= failed
            ended_B = np.isin(np.arange(self.board.state.end.size), list(failed))
            state = self.board.state.replace(end=jnp.where(ended_B, INCOMPLETE, self.board.state.end))
            self.board = self.board.replace(state=state)
            replies = {row: reply for row, reply in replies.items() if reply.read is not None}
            going = list(replies)
            seats[role] = Spoke(role, self._spoken(role, {row: reply.read for row, reply in replies.items()}))
        self.board, *said = _move(role, tuple(seats), self.table.tables, jnp.int32(turn), key, self.board)
        state = self.board.state
        played = [history[:, turn, role] for history in (state.kinds, state.prices, state.acts)]
        fetched = jax.device_get((*played, state.interventions, *said))
        kinds, prices, acts, interventions, tokens, lengths, written = fetched
        repairs = self.table.tables.params.regulation == "repair"
        decode = lambda ids, length: self.table.tokenizer.decode(ids[: int(length)])
        for row in going:
            words = decode(written.tokens[row], written.valid[row].sum())
            if row in replies:
                text, used = replies[row].read.text, replies[row].tokens
            elif tokens is not None:
                text, used = decode(tokens[row], lengths[row]), int(lengths[row])
            else:
                text, used = words, 0
            replaced = repairs and bool(interventions[row] > before[1][row])
            shown = words if replaced else text
            self.lines[role][row].append(Line(True, shown))
            self.lines[1 - role][row].append(Line(False, plain.heard(shown)))
            action = {"kind": Kind(int(kinds[row])), "price": recording.price(prices[row]), "acts": int(acts[row])}
            said = {"text": shown, "tokens": used, "replaced": replaced, "withdrawn": text if replaced else ""}
            self.messages[row].append(Message(role, turn, **action, **said))

    def _view(self, row: int, role: int, turn: int, standing: int) -> View:
        table, catalog, params = self.table, self.table.catalog, self.table.tables.params
        product = int(self.board.state.scenario.product[row])
        return View(
            role=role,
            product=product,
            episode=int(self.numbers[row]),
            turn=turn,
            turns=params.turns,
            rules=prompts.rules(catalog, product, role, params.turns, "full", table.tables.script.persona),
            about=prompts.about(catalog, product),
            codename=catalog.codenames[product],
            price=int(catalog.price[product]),
            private=int((catalog.budget if role == BUYER else catalog.cost)[product]),
            standing=standing,
            said=tuple(self.lines[role][row]),
            tokenizer=table.tokenizer,
            cap=table.caps[role],
        )

    def _spoken(self, role: int, read: Mapping[int, Read]) -> Spoken:
        """The messages of a turn for the device; an unreadable one in the rows that none is asked for."""
        tables, B = self.table.tables, self.board.state.end.size
        listener = tables.buyer if role == SELLER else tables.seller
        width = listener.layout.reply if listener else 1
        kinds, prices = np.full(B, Kind.MISSING, np.int32), np.full(B, NONE, np.int32)
        acts = np.zeros(B, np.int32)
        tokens, valid = np.zeros((B, width), np.int32), np.zeros((B, width), bool)
        for row, own in read.items():
            kinds[row], prices[row], acts[row] = own.kind, own.price, own.acts
            if listener:
                ids = [*self.table.tokenizer.encode(plain.heard(own.text))[: width - 1], tables.end]
                tokens[row, : len(ids)], valid[row, : len(ids)] = ids, True
        action = Action(kind=jnp.asarray(kinds), price=jnp.asarray(prices), acts=jnp.asarray(acts))
        return Spoken(action, Chunk(jnp.asarray(tokens), jnp.asarray(valid)))


def _players(seats: Sequence[DeviceSeat], tables: Tables) -> list[Player]:
    return [seat.player(tables) for seat in seats]


@jax.jit
def _begin(seats, tables, drawn) -> _Board:
    state = jax.vmap(lambda scenario: bargaining.reset_to(scenario, tables.params)[1])(drawn)
    return _Board(state, tuple(rollout.sit(tables, own, drawn.product, 1)[0][1:] for own in _players(seats, tables)))


@functools.partial(jax.jit, static_argnames="last")
def _make_room(seats, tables, board, last) -> _Board:
    pairs = zip(_players(seats, tables), board.carried, strict=True)
    grown = tuple((player.make_room(tables, memory, last), *rest) for player, (memory, *rest) in pairs)
    return board.replace(carried=grown)


@functools.partial(jax.jit, static_argnames="role")
def _move(role, seats, tables, turn, key, board):
    """The board after one message; its tokens and lengths, None unless a model spoke; and the words of its action."""
    sat = [Seat(player, *own) for player, own in zip(_players(seats, tables), board.carried, strict=True)]
    seat, other, state, (said, *_) = rollout.move(key, tables, turn, sat[role], sat[1 - role], board.state)
    played = Action(*(history[:, turn, role] for history in (state.kinds, state.prices, state.acts)))
    book = tables.books[role]
    written = write(tables, role, played, board.state, book.width)
    carried = (seat[1:], other[1:]) if role == BUYER else (other[1:], seat[1:])
    tokens, lengths = (said.tokens_BxW, said.lengths_B) if said is not None else (None, None)
    return _Board(state, carried), tokens, lengths, written
