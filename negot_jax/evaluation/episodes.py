"""Episodes as records: who played which scenario, what was said and played, and how it ended; one line of JSON each.

Tables, figures and pages are made from these records, and can be made again without playing.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import math
import os
import pathlib
import re
from typing import Any, Literal

from etils import epath
import jax
import numpy as np

from negot_jax import cache
from negot_jax.game import rewards
from negot_jax.game.types import (
    BUYER,
    MAX_TURNS,
    NONE,
    SELLER,
    SIDES,
    End,
    GameParams,
    GameState,
    Kind,
    Outcome,
    Scenario,
)

FILE = "episodes.jsonl"  # In a report.
VERSION = 1  # Of the format.
_PARTS = ("thought", "talk", "action")
_WHOLE = ("product", "episode", "price", "budget", "cost", "scale", "interventions", "seed")
_SELDOM = ("tokens", "acts", "replaced", "withdrawn")


@dataclasses.dataclass(frozen=True)
class Row:
    """A player: a row of the tables, which other runs' rows can be matched with.

    kind: what it is. "start" is the model before reinforcement learning, "checkpoint" an earlier one of the run,
    "tuned" a schedule chosen on the training products. name: to print. parameters: numbers that were found, such as a
    tuned schedule's; a scripted player's are in its name. Runs that differ in them alone have the same row.
    """

    kind: Literal["start", "checkpoint", "trained", "scripted", "tuned", "best response", "served", "person"]
    name: str
    parameters: tuple[tuple[str, float], ...] = ()

    @property
    def label(self) -> str:
        numbers = ", ".join(f"{name}={value:g}" for name, value in self.parameters)
        return f"{self.name}({numbers})" if numbers else self.name

    @property
    def key(self) -> tuple[str, str]:
        """What the row of another run must agree in to be pooled with this one."""
        return self.kind, self.name

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"parameters": dict(self.parameters)}


TRAINED = Row("trained", "trained")
BEST_RESPONSE = Row("best response", "best response")


def checkpoint_row(iteration: int) -> Row:
    return Row("checkpoint", f"after {iteration} iterations")


@dataclasses.dataclass(frozen=True)
class Message:
    """One message.

    role: `BUYER` or `SELLER`. turn: from 0. kind, price: the action as it was played; cents, None without a price.
    text: as written, Thought included; "" where a scripted player spoke no words. tokens: how many a language model
    sampled. acts: as in `Action`. replaced: whether regulation put it in place of an illegal one. withdrawn: the text
    of that one.
    """

    role: int
    turn: int
    kind: Kind
    price: int | None = None
    text: str = ""
    tokens: int = 0
    acts: int = 0
    replaced: bool = False
    withdrawn: str = ""

    @property
    def parts(self) -> dict[str, str]:
        """The text by header: thought, talk, action, as far as it has them."""
        _, *found = re.split(r"(?m)^(Thought|Talk|Action):", self.text)
        said: dict[str, str] = {}
        for header, body in zip(found[::2], found[1::2], strict=True):
            name, body = header.lower(), body.strip()
            said[name] = f"{said[name]}\n{body}" if name in said else body
        return said


@dataclasses.dataclass(frozen=True)
class Rules:
    """Of the game, as in `GameParams`. prices: whether they are in dollars or normalized to the list price."""

    turns: int = 6
    regulation: str = "repair"
    reward: str = "paper"
    prices: str = "dollars"


@dataclasses.dataclass(frozen=True)
class Episode:
    """One episode. Money is integer cents.

    run: the id of the run whose evaluation or training it belongs to, "" without one; seed: of its training.
    buyer: who bought, as a row of the tables. seller: who sold. selling: the latter as a row, where the tables compare
    sellers. persona: the seller's manner. versions: tells players of the same name apart, by role: a run and its
    iterations, or a checkpoint's digest.
    product: its row in the catalog that was played; episode: which of the product's, from 0. key: the data of the
    scenario's random key. hidden: what only the seller knows besides its cost, by name.
    end, deal_price, reward, interventions: as in `Outcome`; deal_price is None without a deal.
    incomplete: why it did not end by rule, such as a server's failure; "" if it did. An incomplete episode has no
    result and counts in no mean.
    """

    buyer: Row
    seller: str
    product: int
    episode: int
    title: str
    price: int
    budget: int
    cost: int
    scale: int
    messages: tuple[Message, ...]
    end: End
    reward: float
    deal_price: int | None = None
    interventions: int = 0
    rules: Rules = Rules()
    category: str = ""
    codename: str = ""
    persona: str = ""
    hidden: Mapping[str, str] = dataclasses.field(default_factory=dict)
    key: tuple[int, ...] = ()
    run: str = ""
    seed: int = 0
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    incomplete: str = ""
    selling: Row | None = None

    @property
    def row(self) -> Row:
        """The player that the tables are about."""
        return self.selling or self.buyer

    @property
    def role(self) -> int:
        """The side of that player."""
        return SELLER if self.selling else BUYER

    @property
    def complete(self) -> bool:
        return not self.incomplete

    def to_json(self) -> dict[str, Any]:
        """As data for `json`; messages leave out fields at their defaults."""
        return {
            "version": VERSION,
            **vars(self),
            "buyer": self.buyer.to_json(),
            "selling": self.selling and self.selling.to_json(),
            "rules": vars(self.rules),
            "messages": [_message_to_json(message) for message in self.messages],
            "end": self.end.name.lower(),
            "complete": self.complete,
        }


def from_json(values: Mapping[str, Any]) -> Episode:
    """The episode that `Episode.to_json` made. Raises ValueError for another version, or a wrong field or value."""
    if not isinstance(values, Mapping):
        raise ValueError(f"a JSON {type(values).__name__} is not an episode")
    values = dict(values)
    if (version := values.pop("version", None)) != VERSION:
        raise ValueError(f"version {version!r} of the format is not {VERSION}, the one that is read here")
    try:
        values.pop("complete")
        _require_numbers(values)
        return Episode(
            **values
            | {
                "buyer": _row_from_json(values["buyer"]),
                "selling": (selling := values.get("selling")) and _row_from_json(selling),
                "rules": Rules(**values["rules"]),
                "messages": tuple(_message_from_json(message) for message in values["messages"]),
                "end": End[values["end"].upper()],
                "key": tuple(values["key"]),
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an episode: {type(error).__name__}: {error}") from error


def _row_from_json(values: Mapping[str, Any]) -> Row:
    return Row(values["kind"], values["name"], tuple(values["parameters"].items()))


def _require_numbers(values: Mapping[str, Any]) -> None:
    """Raises ValueError for a number of another type or range than an episode's."""
    whole = [(name, values.get(name, 0)) for name in _WHOLE] + [("deal_price", values.get("deal_price") or 0)]
    turns = values["rules"]["turns"]
    if type(turns) is not int or not 0 < turns <= MAX_TURNS:
        raise ValueError(f"turns={turns!r} is not from 1 to {MAX_TURNS}")
    for message in values["messages"]:
        whole += [(f"a message's {name}", message.get(name) or 0) for name in ("price", "tokens", "acts")]
        if type(message["turn"]) is not int or not 0 <= message["turn"] < turns:
            raise ValueError(f"a message's turn is {message['turn']!r}, of {turns!r}")
    for name, value in whole:
        if type(value) is not int or not 0 <= value < 2 ** (32 if name == "seed" else 31):
            raise ValueError(f"{name}={value!r} is not a whole number in its range")
    if type(values["reward"]) not in (int, float) or not math.isfinite(values["reward"]):
        raise ValueError(f"reward={values['reward']!r} is not a number")


def lines(episodes: Iterable[Episode]) -> str:
    """One line of JSON per episode."""
    return "".join(json.dumps(own.to_json(), allow_nan=False) + "\n" for own in episodes)


def write(path: str | os.PathLike, episodes: Iterable[Episode]) -> None:
    """Writes episodes as JSONL; a crash leaves the old file or the whole new one."""
    with cache.replacing(pathlib.Path(path)) as part:
        part.write_text(lines(episodes), encoding="utf-8")


def read(path: str | os.PathLike) -> list[Episode]:
    """Reads what `write` wrote, but for a last line that was torn while it was appended, without its end.

    Raises ValueError, which names the line, if one is damaged.
    """
    found = []
    *whole, _ = epath.Path(path).read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(whole, start=1):
        try:
            found.append(from_json(json.loads(line)))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return found


def outcomes(episodes: Sequence[Episode]) -> Outcome:
    """The outcomes, numpy [episodes], as the players that the tables are about see them, from what was played.

    Raises ValueError if the episodes were paid by different rewards, or are of both sides.
    """
    if len(roles := {own.role for own in episodes}) > 1:
        raise ValueError("episodes whose rows are buyers and episodes whose rows are sellers have no common table")
    turns = max(own.rules.turns for own in episodes)
    if len(paid := {own.rules.reward for own in episodes}) > 1:
        raise ValueError(
            f"episodes that were paid by different rewards, {', '.join(sorted(paid))}, have no common table"
        )
    kinds_NxTx2 = np.full((len(episodes), turns, 2), NONE, np.int32)
    prices_NxTx2, acts_NxTx2 = kinds_NxTx2.copy(), np.zeros_like(kinds_NxTx2)
    for row, own in enumerate(episodes):
        for message in own.messages:
            kinds_NxTx2[row, message.turn, message.role] = message.kind
            prices_NxTx2[row, message.turn, message.role] = _cents(message.price)
            acts_NxTx2[row, message.turn, message.role] = message.acts
    column = lambda value: np.array([value(own) for own in episodes], np.int32)
    last = lambda own: own.messages[-1] if own.messages else Message(BUYER, 0, Kind.MISSING)
    names = ("product", "price", "budget", "cost", "scale")
    state = GameState(
        scenario=Scenario(**{name: column(lambda own, name=name: getattr(own, name)) for name in names}, key=None),
        turn=column(lambda own: last(own).turn),
        player=column(lambda own: last(own).role),
        offers=None,
        kinds=kinds_NxTx2,
        prices=prices_NxTx2,
        acts=acts_NxTx2,
        end=column(lambda own: own.end),
        deal_price=column(lambda own: _cents(own.deal_price)),
        interventions=column(lambda own: own.interventions),
    )
    params = GameParams(products=None, turns=turns, reward=paid.pop())
    return jax.device_get(jax.vmap(lambda own: rewards.outcome(own, params, *roles))(state))


def _cents(price: int | None) -> int:
    return NONE if price is None else price


def _message_to_json(message: Message) -> dict[str, Any]:
    """The text in parts; also as a whole where the parts do not add up to it."""
    said = message.parts
    told = {
        "role": SIDES[message.role],
        "turn": message.turn,
        "kind": message.kind.name.lower(),
        **said,
        **({"text": message.text} if message.text != _joined(said) else {}),
    }
    told |= {} if message.price is None else {"price": message.price}
    return told | {name: value for name in _SELDOM if (value := getattr(message, name))}


def _message_from_json(values: Mapping[str, Any]) -> Message:
    said = {name: values[name] for name in _PARTS if name in values}
    rest = {name: value for name, value in values.items() if name not in _PARTS}
    told = {"role": {"buyer": BUYER, "seller": SELLER}[values["role"]], "kind": Kind[values["kind"].upper()]}
    return Message(**{"text": _joined(said)} | rest | told)


def _joined(parts: Mapping[str, str]) -> str:
    """The text that has these parts and nothing else."""
    return "\n".join(f"{name.capitalize()}: {parts[name]}" for name in _PARTS if name in parts)
