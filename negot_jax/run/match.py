"""Matches between any two players: from their names to a table, and from the episodes to a report."""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
import re
from typing import Any, NamedTuple

import jax

from negot_jax.evaluation import report as reports
from negot_jax.evaluation.arena import scenarios
from negot_jax.evaluation.episodes import BEST_RESPONSE, TRAINED, Episode, Row, Rules
from negot_jax.evaluation.match import seats
from negot_jax.evaluation.match.api import ServedPlayer
from negot_jax.evaluation.match.person import Person
from negot_jax.evaluation.match.play import Seated, Table
from negot_jax.evaluation.match.play import play as play_match
from negot_jax.evaluation.tables import Settings, TrainedRun
from negot_jax.game import buyers, sellers
from negot_jax.game.types import BUYER, SELLER, SIDES
from negot_jax.models import sharding
from negot_jax.rl.train_step import NOTHING_FROZEN, Frozen
from negot_jax.run import assembly, folder, reporting, weights
from negot_jax.run.assembly import Parts
from negot_jax.run.config import EVALUATED, Config, override, within
from negot_jax.run.run import Run
from negot_jax.run.run import open as open_run

TEXT_TOKENS = 512  # The cap of a message in text, unless the configuration says otherwise.
_TEXT = ("api", "person")  # Kinds of players that answer in text.
_CAPS = ("language.message_tokens", "seller.message_tokens")


class Name(NamedTuple):
    """A player as it is named: its kind (run, checkpoint, api, person, best_response, scripted), and which one."""

    kind: str
    value: str = ""


def parse_name(spec: str, role: int) -> Name:
    """Reads a player's name. Raises ValueError if it names no player of this side."""
    side, example = (("buyer", "linear, or best_response"), ("seller", "neutral"))[role]
    forms = f"run:DIR, checkpoint:FOLDER, api:MODEL, person, or a scripted {side} such as {example}"
    if match := re.fullmatch(r"(run|checkpoint|api):(.*)", spec):
        if not match[2]:
            raise ValueError(f"--{side}={spec} names no player. Write {forms}.")
        return Name(*match.groups())
    if spec == "person" or (spec == "best_response" and role == BUYER):
        return Name(spec)
    try:
        (buyers if role == BUYER else sellers).make(spec)
    except ValueError as error:
        raise ValueError(f"--{side}={spec}: {error}. Or write {forms}.") from error
    return Name("scripted", spec)


class Played(NamedTuple):
    """The episodes of a match, and after how many iterations its run's model played."""

    episodes: list[Episode]
    iterations: int


@dataclasses.dataclass(frozen=True)
class Match:
    """A match, checked, with nothing played. names: of buyer and seller. run: the one that takes part, if any.

    first, products: which of the held-out products are played.
    """

    names: tuple[Name, Name]
    parts: Parts
    run: Run | None
    products: int
    first: int = 0

    @property
    def episodes(self) -> int:
        """Of each product."""
        return self.parts.config.evaluation.episodes

    def instead(self, role: int, spec: str) -> "Match":
        """The match with a scripted player, or the best response, in a seat."""
        names = list(self.names)
        names[role] = parse_name(spec, role)
        return dataclasses.replace(self, names=tuple(names))

    def unsolvable(self) -> str | None:
        """Why there is no best response to the seller, in one line; None if there is one."""
        if self.names[SELLER].kind != "scripted" and BUYER not in self.parts.programs:
            return "the seller is a language model"
        return reporting.arena(self.parts, self.parts.program.role).unsolvable()

    def require_own(self, output: pathlib.Path) -> None:
        """Raises ValueError if a folder holds another report than one of the same players by the same rules."""
        mine = (self.run.run_id if self.run else "", self.row, self.seller, self.rules)
        told = lambda own: (own.run, own.row, own.seller, own.rules)
        reports.require_own(output, lambda found: set(map(told, found)) == {mine})

    def play(self, served: Mapping[int, ServedPlayer]) -> Played:
        """Plays it, on the arena's draws. served: the players of the sides that are `api`, by role.

        Raises CheckpointError as `weights.restore`, and StopMatch if a server refuses every request.
        """
        key = jax.random.key(0)
        key_scenarios, key_buyers, _ = jax.random.split(key, 3)
        with jax.set_mesh(self.parts.mesh):
            seated, iterations = self._seat(served, jax.random.fold_in(key, 3))
            table = self._table(iterations)
            rows = slice(self.first * self.episodes, (self.first + self.products) * self.episodes)
            drawn = jax.tree.map(lambda x: x[rows], scenarios(table.tables.params, self.episodes, key_scenarios))
            return Played(play_match(table, seated, key_buyers, drawn), iterations)

    def report(
        self, played: Played, counts: Mapping[str, Mapping[str, float]], output: pathlib.Path, command: str
    ) -> str:
        """Writes the report into a folder; returns the tables as text. Arguments as of `report.write_match`."""
        config, by_model = self.parts.config, self.names[BUYER].kind in ("run", "checkpoint")
        sampled = {"evaluation.sampling.temperature": config.evaluation.sampling.temperature} if by_model else {}
        settings = Settings(
            catalog=config.catalog.name,
            products=self.products,
            episodes=self.episodes,
            prices=config.catalog.prices,
            decoding=config.language.decoding if by_model else "",
            seller=self.seller,
            runs=(TrainedRun(self.run.run_id, config.seed, played.iterations),) if self.run else (),
            identity=self.parts.inputs() | sampled,
            command=command,
        )
        return reports.write_match(output, played.episodes, settings, counts)

    @property
    def row(self) -> Row:
        """The buyer as a row of the tables."""
        kind, value = self.names[BUYER]
        known = {"run": TRAINED, "best_response": BEST_RESPONSE, "person": Row("person", "person")}
        kinds = {"checkpoint": "checkpoint", "api": "served", "scripted": "scripted"}
        return known.get(kind) or Row(kinds[kind], value)

    @property
    def seller(self) -> str:
        """Who sells, in a few words."""
        (kind, value), config = self.names[SELLER], self.parts.config
        if kind == "run" and not value and SELLER not in self.parts.programs:
            return reporting.seller(config)  # The run's own.
        return value if kind == "scripted" else f"{kind} {value}".strip() + f" ({config.game.persona.name})"

    @property
    def rules(self) -> Rules:
        game = self.parts.config.game
        return Rules(game.turns, game.regulation, game.reward, self.parts.config.catalog.prices)

    def _table(self, iterations: int) -> Table:
        config, parts = self.parts.config, self.parts
        people = any(name.kind == "person" for name in self.names)
        trained = reporting.version(self.run, iterations) if self.run else ""
        sides = enumerate(zip(SIDES, self.names, strict=True))
        return Table(
            tables=parts.test_tables,
            catalog=parts.test,
            tokenizer=parts.dialect.tokenizer,
            caps=(config.language.message_tokens, config.seller.message_tokens),
            batch=1 if people else config.evaluation.batch,
            facts={
                "buyer": self.row,
                "seller": self.seller,
                "rules": self.rules,
                "run": self.run.run_id if self.run else "",
                "seed": config.seed,
                "versions": {
                    side: trained
                    for role, (side, name) in sides
                    if name.kind == "run" and (name.value or role in parts.programs)
                },
            },
        )

    def _seat(self, served: Mapping[int, ServedPlayer], key: jax.Array) -> tuple[Seated, int]:
        """Both players, and after how many iterations the run's is taken. key: for solving."""
        parts, program, iterations, learned, published = self.parts, self.parts.program, 0, {}, None
        frozen = {program.role: NOTHING_FROZEN}
        if any(name.kind == "checkpoint" for name in self.names):
            published = sharding.shard(weights.init_learner(parts))
        if self.run is not None:
            saved = weights.restore(parts, self.run.workdir, self.run.run_id)
            iterations = saved.latest
            learned = {role: saved.trained(role) for role in parts.programs}
            frozen = {role: weights.against(parts, saved, role) for role in parts.programs}
        elif published is not None:
            opponent = sharding.shard(weights.init_opponent(parts, BUYER))
            frozen = {program.role: Frozen(base=weights.base(parts, published), opponent=opponent)}
        config = parts.config

        def seat(role: int):
            kind, value = self.names[role]
            if kind in _TEXT:
                return served[role] if kind == "api" else Person()
            side = role if role in parts.programs else program.role  # Who has learned one side may play the other.
            if (role == BUYER and kind in ("run", "checkpoint")) or (kind == "run" and (value or side == SELLER)):
                sampling = config.evaluation.sampling if role == side else config.seller.sampling
                own = program.trained(published) if kind == "checkpoint" else learned[side]
                return seats.Trained(parts.programs[side], sampling, own, frozen[side], role)
            if role == SELLER:
                return seats.ScriptedSeller() if kind == "scripted" else seats.Opponent(program, frozen[program.role])
            if kind == "best_response":
                return seats.ScriptedBuyer(reporting.arena(parts, program.role).solve(key).buyer)
            return seats.ScriptedBuyer(buyers.make(value))

        return (seat(BUYER), seat(SELLER)), iterations


def prepare(
    buyer: str,
    seller: str,
    overrides: Mapping[str, Any],
    *,
    count: int | None = None,
    product: int | None = None,
    workdir: str | None = None,
) -> Match:
    """Checks a match and builds what it needs, without weights.

    Args:
      buyer, seller: their names. A seller of "" is the run's own.
      overrides: configuration fields by dotted name.
      count: play the first so many held-out products; None for all. product: play this one alone, counted from 1.
      workdir: the folder of the run on whose terms two other players meet; None without one.

    Raises ValueError if the players do not fit each other, or a field does not fit.
    """
    names = (parse_name(buyer, BUYER), parse_name(seller, SELLER) if seller else Name("run"))
    both = names[BUYER].kind == names[SELLER].kind == "run" and names[SELLER].value
    if both and folder.workdir(names[SELLER].value) != folder.workdir(names[BUYER].value):
        names = (names[BUYER], Name("checkpoint", names[SELLER].value))  # What another run has taught to sell.
    named = {name.value for name in names if name.kind == "run" and name.value}
    folders = {os.fspath(folder.workdir(value)) for value in named | ({workdir} if workdir else set())}
    if len(folders) > 1:
        raise ValueError(f"--workdir={workdir} is another run than {', '.join(named)}. Leave it out.")
    if names[SELLER] == Name("run") and not folders:
        raise ValueError("--seller is missing. Only a run, --buyer=run:DIR, brings a seller of its own.")
    fields = _fields(*names)
    for name, value in overrides.items():
        if name in fields.keys() - set(_CAPS) and value != fields[name]:
            raise ValueError(
                f"--config.{name}={value} contradicts the players, which make it {fields[name]!r}. Leave it out, or "
                "name another player."
            )
    fields |= overrides
    run = open_run(folders.pop()) if folders else None
    config = override(run.config if run else Config(), fields)
    total = config.catalog.test
    for flag, number in (("products", count), ("product", product)):
        if number is not None and not 0 < number <= total:
            raise ValueError(f"--{flag}={number}: there are {total} held-out products. Give one from 1 to {total}.")
    if run:
        parts = reporting.parts_of(run, *reporting.changes(run, fields))
    else:
        for name in overrides:
            if name != "language.vocab_size" and (not within(name, EVALUATED) or within(name, ("buyer",))):
                raise ValueError(f"--config.{name}: no match between these players depends on it. Leave it out.")
        parts = assembly.assemble(assembly.with_absolute_paths(config))
    if names[SELLER].kind == "checkpoint" and BUYER not in parts.programs:
        raise ValueError(f"--buyer={buyer} has trained a seller alone, which meets no other model. Name another buyer.")
    match = Match(names, parts, run, 1 if product else count or total, product - 1 if product else 0)
    if names[BUYER].kind == "best_response" and (reason := match.unsolvable()):
        raise ValueError(f"--buyer=best_response: {reason}. Name a scripted seller that has a solver.")
    return match


def _fields(buyer: Name, seller: Name) -> dict[str, Any]:
    """What the players make of the configuration: who sells, and how long a message in text may be."""
    fields: dict[str, Any] = {}
    if buyer.kind in _TEXT:
        fields["language.message_tokens"] = TEXT_TOKENS
    if buyer.kind == "best_response":
        fields["evaluation.best_response"] = True
    if buyer.kind == "checkpoint":
        fields["model.checkpoint"] = buyer.value
    if seller.kind == "scripted":
        fields |= {"game.seller": seller.value, "seller.model": "scripted", "seller.checkpoint": None}
    elif seller.kind in _TEXT:
        # A model's seat, so that the buyer has room for what is said in it.
        fields |= {"seller.model": "base", "seller.checkpoint": None, "seller.message_tokens": TEXT_TOKENS}
    elif seller.kind == "run" and seller.value:
        fields |= {"seller.model": "base", "seller.checkpoint": None}
    elif seller.kind == "checkpoint":
        fields |= {"seller.model": "own", "seller.checkpoint": seller.value}
        if buyer.kind not in ("run", "checkpoint"):
            fields["model.checkpoint"] = seller.value  # Whose tokens the match is read in.
    return fields


def sold(episode: Episode) -> float:
    """The seller's share of the surplus, 0 without a deal."""
    return 0.0 if episode.deal_price is None else (episode.deal_price - episode.cost) / episode.scale
