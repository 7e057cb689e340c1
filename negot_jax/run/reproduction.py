"""The paper's tables and figures from finished runs: what is missing is played, what is there is reused."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax

from negot_jax.evaluation import episodes, paper, paper_figures, tables
from negot_jax.evaluation.episodes import TRAINED, Episode
from negot_jax.evaluation.paper import Pairing
from negot_jax.game import sellers, specs
from negot_jax.game.sellers import Seller
from negot_jax.models import transformer
from negot_jax.run import reporting, weights
from negot_jax.run import run as runs
from negot_jax.run.config import Config, flat, identity, within
from negot_jax.run.reporting import Evaluation
from negot_jax.run.run import Run
from negot_jax.training import checkpoint, metrics

PERSONAS = ("begging", "insulting", "unyielding")
# Scripted sellers that nobody is trained against here; the last is the configured one's kind, with a higher floor and
# less patience: stronger than any in training.
STRONGER = "neutral(margin=(0.2, 0.4), beta=(0.2, 0.5), reciprocity=(0.0, 0.2))"
UNSEEN = ("floor", "boulware", STRONGER)

# Beside the trained buyer, its start, the tuned schedule and the best response.
_BUYERS = ("linear(start=0.5, end=1.0)",)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one configuration, by seed. name: tells it apart from the other groups."""

    name: str
    parameters: int
    runs: tuple[Run, ...]

    @property
    def config(self) -> Config:
        return self.runs[0].config

    @property
    def seller(self) -> str:
        """Whom its buyers were trained against; a model of the run's own is told by its size."""
        met, own = reporting.seller(self.config), self.config.seller
        return met if own.model == "scripted" or own.checkpoint else f"{met}, {self.parameters:,} parameters"

    @property
    def spoken(self) -> tuple[str, str]:
        """What another model must share to read what its models say: tokens, and the unit of prices."""
        return self.runs[0].saved["inputs"]["tokenizer"], self.config.catalog.prices


def groups(workdirs: Iterable[str]) -> list[Group]:
    """The runs of these folders, grouped by what they learn from but for the seed.

    Raises ValueError if a folder holds no run, no checkpoint or no buyer, or two hold the same run.
    """
    found: dict[str, list[Run]] = {}
    for workdir in workdirs:
        own = runs.open(workdir)
        if not _latest(own):
            raise ValueError(f"--workdirs: {workdir} holds no checkpoint yet. Train it first.")
        if own.config.learner.role == "seller":
            raise ValueError(
                f"--workdirs: {workdir} has trained a seller, and these tables are of buyers. Leave it out."
            )
        told = {name: value for name, value in identity(own.config).items() if name != "seed"} | own.saved["inputs"]
        alike = found.setdefault(json.dumps(told, sort_keys=True), [])
        if same := next((other for other in alike if own.run_id == other.run_id), None):
            raise ValueError(f"--workdirs: {workdir} is the same run as {same.workdir}. Name each run once.")
        alike.append(own)
    every = list(found.values())
    for first, *others in every:
        for other in others:
            _require_alike(first, other)
    names, sizes = [reporting.seller(own[0].config) for own in every], [_parameters(own[0]) for own in every]
    names = _told_apart(names, [f", {size:,} parameters" for size in sizes])
    places = [own[0].workdir.name for own in every]  # Of the first folder of each, if need be.
    if len(set(zip(names, places, strict=True))) < len(every):
        places = [own[0].workdir for own in every]
    names = _told_apart(names, [f" ({place})" for place in places])
    return [Group(name, size, tuple(own)) for name, size, own in zip(names, sizes, every, strict=True)]


def _require_alike(first: Run, other: Run) -> None:
    """Raises ValueError unless two runs of a group have trained for as long and are evaluated alike."""
    ours, theirs = (flat(run.config) | {"training.iterations": _latest(run)} for run in (first, other))
    for name, value in theirs.items():
        if within(name, ("training.iterations", "evaluation")) and value != ours[name]:
            raise ValueError(
                f"--workdirs: {other.workdir} has {name}={value!r}, {first.workdir} {ours[name]!r}, and their seeds "
                "are to be pooled. Set both to the same value and run their training commands again, which resume."
            )


def _latest(run: Run) -> int:
    """The iterations after which its latest checkpoint was saved; 0 without any."""
    return max(checkpoint.survey(run.workdir / weights.CHECKPOINTS)[0], default=0)


def _told_apart(names: Sequence[str], more: Sequence[str]) -> list[str]:
    """The names; of those that several share, with more behind them."""
    return [f"{name}{own}" if names.count(name) > 1 else name for name, own in zip(names, more, strict=True)]


def _parameters(run: Run) -> int:
    init = functools.partial(transformer.init, config=run.parts.program.model)
    return transformer.parameter_count(jax.eval_shape(init, jax.random.key(0)))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is asked for, checked. evaluations: by group and seller, one of each run."""

    groups: tuple[Group, ...]
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    evaluations: Mapping[tuple[str, str], tuple[Evaluation, ...]]


def plan(workdirs: Sequence[str], tables: Sequence[str], figures: Sequence[str]) -> Plan:
    """Checks everything before anything is played; errors are those of `groups` and `reporting.prepare`.

    tables, figures: names of `paper.NAMES` and `paper_figures.NAMES`.
    """
    found = groups(workdirs)
    for run in (run for group in found for run in group.runs if "phases" in figures):
        if metrics.curves(run.workdir) is None:
            raise ValueError(
                f"--workdirs: {run.workdir} has no {metrics.METRICS}, of which the figure phases is made. Put a copy "
                "back, or leave phases out of --figure."
            )
    evaluations = {}
    for group in found:
        for seller in {seller: None for table in ("main", *tables) for seller in _sellers(table, group, found)}:
            terms = _terms(group, seller, found)
            evaluations[group.name, seller] = tuple(run.prepare_evaluation(terms) for run in group.runs)
    return Plan(tuple(found), tuple(tables), tuple(figures), evaluations)


def make(plan: Plan, output: pathlib.Path) -> Iterator[str]:
    """Plays what is missing, and writes every table and figure to a folder. Yields each table and each file's path."""
    output.mkdir(parents=True, exist_ok=True)
    played: dict[tuple[str, str], Pairing] = {}

    def of(table: str) -> list[Pairing]:
        wanted = [(group, seller) for group in plan.groups for seller in _sellers(table, group, plan.groups)]
        for group, seller in wanted:
            if (key := (group.name, seller)) not in played:
                read = tuple(tuple(_episodes(own)) for own in plan.evaluations[key])
                played[key] = Pairing(group.name, group.parameters, seller, read)
        return [played[group.name, seller] for group, seller in wanted]

    for name in plan.tables:
        table = paper.make(name, of(name))
        table.save(output)
        yield f"{table.text()}\n{output / name}.md\n"
    curves = {group.name: [metrics.curves(run.workdir) for run in group.runs] for group in plan.groups}
    for name in plan.figures:
        yield from map(str, paper_figures.draw(name, of("main"), curves, output))
    if "matrix" in plan.tables:
        yield from map(str, paper_figures.draw("matrix", of("matrix"), curves, output))


def _sellers(table: str, group: Group, every: Sequence[Group]) -> tuple[str, ...]:
    """Whom a group meets for a table."""
    if table == "matrix":
        met = [own for own in every if own.config.seller.model == "scripted" or own.spoken == group.spoken]
        known = {_without_tick(own.config.game.seller) for own in met if own.config.seller.model == "scripted"}
        others = [name for name in (*PERSONAS, *UNSEEN) if _without_tick(name) not in known]
        return tuple(dict.fromkeys([*(own.seller for own in met), *others]))
    return {"personas": PERSONAS, "unseen_sellers": UNSEEN}.get(table, (group.seller,))


def _without_tick(seller: str) -> Seller:
    """The scripted seller; two that differ in their unit of prices alone are the same."""
    made = sellers.make(seller)
    return dataclasses.replace(made, tick=1) if hasattr(made, "tick") else made


def _terms(group: Group, seller: str, every: Sequence[Group]) -> dict[str, Any]:
    """The overrides under which a group's runs meet a seller."""
    if seller == group.seller:
        return {}
    for other in every:
        if other.seller == seller and other.config.seller.model != "scripted":
            theirs = other.config.seller
            folder = theirs.checkpoint or str(other.runs[0].workdir)
            seat = dataclasses.asdict(theirs) | {"model": "own", "checkpoint": folder}
            return {"game.seller": other.config.game.seller, "seller": seat, "evaluation.buyers": _BUYERS}
    own, other = sellers.make(group.config.game.seller), sellers.make(seller)
    # Prices are spoken in the unit that the buyer knows.
    if hasattr(own, "tick") and hasattr(other, "tick") and own.tick != other.tick:
        seller = specs.with_field(seller, "tick", own.tick)
    terms = {"game.seller": seller, "evaluation.buyers": _BUYERS}
    # The shared base plays personas; a model that was taught to sell has one manner. A script plays the rest.
    if group.config.seller.model == "own" or other.persona.name not in PERSONAS:
        terms |= {"seller.model": "scripted", "seller.checkpoint": None}
    return terms


def _episodes(evaluation: Evaluation) -> list[Episode]:
    """Those of the report, which is made unless it is there already: of the run's latest checkpoint, on these terms."""
    file, run = evaluation.folder / episodes.FILE, evaluation.run
    version = reporting.version(run, _latest(run))
    with contextlib.suppress(FileNotFoundError, ValueError, LookupError):  # Damaged: the report is made again.
        terms = json.loads((evaluation.folder / tables.FILE).read_text(encoding="utf-8"))["settings"]["identity"]
        found = episodes.read(file)
        ours = any(own.buyer == TRAINED and own.versions.get("buyer") == version for own in found)
        if ours and terms == reporting.terms(evaluation):
            return found
    evaluation.report()
    return episodes.read(file)
