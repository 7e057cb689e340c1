"""Who can sit on a side of the table: what plays on the device, and what answers in text."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple, Protocol

import jax

from negot_jax.game import bargaining
from negot_jax.game.buyers import Buyer
from negot_jax.game.money import dollars
from negot_jax.game.types import BUYER, NONE, SELLER, Kind
from negot_jax.language import plain
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl.players import Player, ScriptedPlayer, scripted_seller
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Program


class DeviceSeat(Protocol):
    """A player on the device: hashable, static under jit. Its weights, keys and the like come as `data`."""

    def player(self, tables: Tables, data: Any) -> Player:
        """The player of its side."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """The trained model of a run, on either side. data: what is trained, and what is frozen."""

    program: Program
    sampling: SamplingConfig
    role: int = BUYER

    def player(self, tables, data):
        learner = self.program.players(*data, tables, self.sampling)[self.program.role]
        return learner._replace(role=self.role, per_scenario=self.role == SELLER)


@dataclasses.dataclass(frozen=True)
class Opponent:
    """The seller of a run: scripted, or its frozen language model. data: what is frozen."""

    program: Program

    def player(self, tables, data):
        return self.program.opponent_player(data, tables)


@dataclasses.dataclass(frozen=True)
class ScriptedSeller:
    """The scripted seller of the tables. data: nothing."""

    def player(self, tables, data):
        return scripted_seller(tables)


@dataclasses.dataclass(frozen=True)
class ScriptedBuyer:
    """A scripted buyer. data: a key for each row [B], from which `game.play` draws as well."""

    policy: Buyer

    def player(self, tables, data):
        turns = tables.params.turns

        def act(key, state):
            key = jax.random.split(jax.random.split(key, turns)[state.turn], 3)[0]
            return self.policy.act(key, bargaining.observe(state, BUYER), turns)

        return ScriptedPlayer(BUYER, lambda state: jax.vmap(act)(data, state))


@dataclasses.dataclass(frozen=True)
class Spoke:
    """A seat whose messages come as text. data: what was `Spoken` in this turn."""

    role: int

    def player(self, tables, data):
        return ScriptedPlayer(self.role, lambda state: data)


class Read(NamedTuple):
    """A message as it was read: its text, the fields of its `Action`, and whether it was cut."""

    text: str
    kind: Kind
    price: int
    acts: int
    cut: bool

    @property
    def readable(self) -> bool:
        return self.kind not in (Kind.MISSING, Kind.UNREADABLE, Kind.CUT)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads messages by `plain`. One whose talk and action take more than `cap` tokens is cut there."""

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    cap: int

    def __call__(self, text: str, cut: bool, codename: str, role: int) -> Read:
        tokens = self.encode(plain.without_thoughts(text))
        if len(tokens) > self.cap:
            text, cut = self.decode(tokens[: self.cap]), True
        said = text.encode()
        return Read(text, *plain.action(said, cut, codename.encode(), role), plain.acts(plain.talk(said)), cut)


class Line(NamedTuple):
    """One message as a side knows it: its own in full (or what replaced it), the other's as it was heard."""

    own: bool
    text: str


@dataclasses.dataclass(frozen=True)
class View:
    """What one side knows of an episode when it is to speak. Money is cents; `NONE` where no offer stands.

    product, episode: which one it is. turn: from 0. rules, about: the two parts of its prompt, with its own private
    number. private: that number. standing: the other side's standing offer. read: how its message will be read.
    """

    role: int
    product: int
    episode: int
    turn: int
    turns: int
    rules: str
    about: str
    codename: str
    price: int
    private: int
    standing: int
    said: tuple[Line, ...]
    reader: Reader

    def read(self, text: str, cut: bool = False) -> Read:
        return self.reader(text, cut, self.codename, self.role)

    def action(self, kind: Kind, price: int = NONE) -> str:
        """The Action line of a move."""
        tag = ("BUY", "SELL")[self.role] if kind == Kind.OFFER else kind.name
        return f"Action: [{tag}]" + (f" {dollars(price)} (1x {self.codename})" if price != NONE else "")


class Reply(NamedTuple):
    """A message, None where none came: then `failure` says why, and the episode is incomplete. tokens: what it took."""

    read: Read | None
    tokens: int = 0
    failure: str = ""


class TextSeat(Protocol):
    """A player that answers in text."""

    def speak(self, views: Sequence[View]) -> list[Reply]:
        """A reply to each view. It never raises for what a server does."""
