"""Who can sit on a side of the table: what plays on the device, and what answers in text."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import NamedTuple, Protocol, runtime_checkable

from flax import struct
import jax

from negot_jax.game import bargaining
from negot_jax.game.buyers import Buyer
from negot_jax.game.money import dollars
from negot_jax.game.types import BUYER, NONE, SELLER, Kind
from negot_jax.language import plain
from negot_jax.language.tokenizer import Tokenizer
from negot_jax.models.sampling import SamplingConfig
from negot_jax.models.transformer import Weights
from negot_jax.rl.players import Player, ScriptedPlayer, Spoken, scripted_seller
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import Frozen, Program

_static = functools.partial(struct.field, pytree_node=False)


@struct.dataclass
class Trained:
    """The trained model of a run, on either side."""

    program: Program = _static()
    sampling: SamplingConfig = _static()
    trained: Weights
    frozen: Frozen
    role: int = _static(default=BUYER)

    def player(self, tables: Tables) -> Player:
        learner = self.program.players(self.trained, self.frozen, tables, self.sampling)[self.program.role]
        return dataclasses.replace(learner, role=self.role, per_scenario=self.role == SELLER)


@struct.dataclass
class Opponent:
    """The seller of a run: scripted, or its frozen language model."""

    program: Program = _static()
    frozen: Frozen

    def player(self, tables):
        return self.program.opponent_player(self.frozen, tables)


@struct.dataclass
class ScriptedSeller:
    """The scripted seller of the tables."""

    def player(self, tables):
        return scripted_seller(tables)


@struct.dataclass
class ScriptedBuyer:
    """A scripted buyer. keys: one for each row [B], given by the match; `game.play` draws from the same ones."""

    policy: Buyer = _static()
    keys: jax.Array | None = None

    def player(self, tables):
        turns = tables.params.turns

        def act(key, state):
            key = jax.random.split(jax.random.split(key, turns)[state.turn], 3)[0]
            return self.policy.act(key, bargaining.observe(state, BUYER), turns)

        return ScriptedPlayer(BUYER, lambda state: jax.vmap(act)(self.keys, state))


@struct.dataclass
class Spoke:
    """A seat whose messages come as text. said: those of this turn, None between turns."""

    role: int = _static()
    said: Spoken | None = None

    def player(self, tables):
        return ScriptedPlayer(self.role, lambda state: self.said)


DeviceSeat = Trained | Opponent | ScriptedSeller | ScriptedBuyer | Spoke
"""A player on the device: a pytree of its weights or keys, the rest static, whose `player` is that of its side."""


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


class Line(NamedTuple):
    """One message as a side knows it: its own in full (or what replaced it), the other's as it was heard."""

    own: bool
    text: str


@dataclasses.dataclass(frozen=True)
class View:
    """What one side knows of an episode when it is to speak. Money is cents; `NONE` where no offer stands.

    product, episode: which one it is. turn: from 0. rules, about: the two parts of its prompt, with its own private
    number. private: that number. standing: the other side's standing offer. cap: of its message's talk and action,
    in tokens.
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
    tokenizer: Tokenizer
    cap: int

    def read(self, text: str, cut: bool = False) -> Read:
        """Reads its message by `plain`; one of which the other side would hear more than the cap is cut there."""
        tokens = self.tokenizer.encode(plain.heard(text))
        if len(tokens) > self.cap:
            text, cut = self.tokenizer.decode(tokens[: self.cap]), True
        said = text.encode()
        kind, price = plain.action(said, cut, self.codename.encode(), self.role)
        return Read(text, kind, price, plain.acts(plain.talk(said)), cut)

    def action(self, kind: Kind, price: int = NONE) -> str:
        """The Action line of a move."""
        tag = ("BUY", "SELL")[self.role] if kind == Kind.OFFER else kind.name
        return f"Action: [{tag}]" + (f" {dollars(price)} (1x {self.codename})" if price != NONE else "")


class Reply(NamedTuple):
    """A message, None where none came: then `failure` says why, and the episode is incomplete. tokens: what it took."""

    read: Read | None
    tokens: int = 0
    failure: str = ""


@runtime_checkable
class TextSeat(Protocol):
    """A player that answers in text."""

    def speak(self, views: Sequence[View]) -> list[Reply]:
        """A reply to each view. Raises StopMatch where a server refuses every request."""
