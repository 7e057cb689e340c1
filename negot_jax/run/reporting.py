"""The report of a run: its learners and other players on held-out products, on its own terms or on others."""

from collections.abc import Mapping
import dataclasses
import json
import os
import re
import shlex
from typing import TYPE_CHECKING, Any

from etils import epath
from flax import traverse_util
import jax

from negot_jax.catalog.types import normalize, products
from negot_jax.evaluation import recording, statistics, tables
from negot_jax.evaluation import report as reports
from negot_jax.evaluation.arena import Arena
from negot_jax.evaluation.episodes import TRAINED, Episode, Row, Rules, checkpoint_row
from negot_jax.game.types import BUYER, SELLER, SIDES
from negot_jax.rl.configs import BuyerConfig, SellerConfig
from negot_jax.rl.train_step import NOTHING_FROZEN, Frozen
from negot_jax.run import assembly, manifest, weights
from negot_jax.run import folder as folders
from negot_jax.run.assembly import Parts
from negot_jax.run.config import EVALUATED, PATHS, Config, flat, override, within
from negot_jax.solvers.best_response import Solution
from negot_jax.training import distributed, metrics, storage

if TYPE_CHECKING:
    from negot_jax.run.run import Run

REPORT = "report"  # In the workdir.

# What the reports of pooled runs may differ in.
_ANY = ("seed", "mesh", "training", *PATHS)

# What the curves of training hold for.
_TRAINED_ON = ("catalog.name", "catalog.data_dir", "catalog.prices", "game", "language", "buyer", "seller")

# What says who sits opposite, and so nothing in a run where the learner sits there.
_OF_THE_LEARNER = {"buyer": ("buyer",), "seller": ("seller.model", "seller.checkpoint")}

_REFUSED = {
    "language.vocab_size": "the learner speaks the tokenizer that it was trained with, and another cannot be compared",
    "sampling": "it is how the learner samples in training; config.evaluation.sampling is how it samples here",
    "model": "the learner is the run's; only config.model.checkpoint may name a new place of the same checkpoint",
}


@dataclasses.dataclass(frozen=True)
class Report:
    """A finished report: its folder, and its tables as text for a terminal ("" on all processes but the first)."""

    folder: epath.Path
    text: str

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is about to be played, checked. overrides: fields that differ from the run's, by dotted name."""

    run: "Run"
    parts: Parts
    overrides: Mapping[str, Any]
    every_checkpoint: bool
    folder: epath.Path
    command: str

    def report(self) -> Report:
        """Plays the held-out products and writes the report. All processes of a run call it; the first one writes.

        It covers each learner; if another opponent was asked for, only the one that meets it. Raises CheckpointError
        if a checkpoint that it needs is missing, damaged, or of another model or run.
        """
        changed, roles = {name.split(".")[0] for name in self.overrides}, list(self.parts.programs)
        asked = [role for role in roles if SIDES[1 - role] in changed]
        return Report(self.folder, "\n".join(_report(self, role) for role in asked or roles))

    def folder_of(self, role: int) -> epath.Path:
        """Of the report on the learner of one side; where there are two, the seller's has a folder of its own."""
        first = role == self.parts.program.role
        return self.folder if first else self.folder.parent / f"{self.folder.name}_sellers"


def prepare(
    run: "Run",
    overrides: Mapping[str, Any] | None = None,
    output: str | os.PathLike | None = None,
    every_checkpoint: bool = False,
) -> Evaluation:
    """Checks an evaluation of a run before anything is computed.

    Args:
      overrides: fields in `config.EVALUATED`, by dotted name or nested, such as {"game.seller": "insulting"}.
      output: folder of the report; by default `report` in the run's folder, or one named after the overrides.
      every_checkpoint: whether the run's earlier checkpoints are rows as well.

    Raises ValueError for a field that evaluation does not read or that does not fit, an input that is not the run's,
    damaged metrics, or an output that holds another report.
    """
    config, overrides = changes(run, overrides or {})
    role = config.learner.role
    for name in overrides:
        if role != "both" and within(name, _OF_THE_LEARNER[role]):
            raise ValueError(
                f"config.{name} cannot be changed for an evaluation: the {role} is the run's. Leave it out."
            )
    persona = config.game.persona.name
    played = config.seller.model != "scripted" and not any(within(name, ("seller",)) for name in overrides)
    if played and "game.seller" in overrides and persona == run.config.game.persona.name:
        raise ValueError(
            f"config.game.seller={config.game.seller}: the seller is a language model and reads only the persona of "
            f"it, which is still {persona}. Set config.seller.model=scripted to meet the script, or name a persona."
        )
    given = None if output is None else folders.workdir(output, "--output")
    parts = parts_of(run, config, overrides)
    metrics.curves(run.workdir)  # For its errors.
    if (reason := arena(parts, parts.program.role).unsolvable()) and parts.config.evaluation.best_response:
        print(f"no best response in the report: {reason}")
    command = ["python", "-m", "experiments.evaluate", f"--workdir={run.workdir}"]
    flag = lambda value: tuple(value) if isinstance(value, list) else value  # As ml_collections reads it.
    command += [f"--config.{name}={flag(value)}" for name, value in overrides.items() if value is not None]
    command += ["--every_checkpoint"] * every_checkpoint + ([f"--output={output}"] if output else [])
    inputs = parts.inputs()
    saved = run.saved["inputs"] if run.saved else inputs
    others = {name: digest for name, digest in inputs.items() if digest != saved.get(name)}
    name = _folder_name(overrides, others, every_checkpoint)
    folder = given or run.workdir / name
    folders.require_writable(folder, "--output" if given else "--workdir")
    evaluation = Evaluation(run, parts, overrides, every_checkpoint, folder, shlex.join(command))
    if given is not None:
        # Unlike in a match, the run's start is a row.
        ours = lambda found: (
            {own.run for own in found} == {run.run_id} and any(own.row.kind == "start" for own in found)
        )
        for role in parts.programs:
            reports.require_own(evaluation.folder_of(role), ours)
    return evaluation


def _report(evaluation: Evaluation, role: int) -> str:
    """Of the learner of one side."""
    run, parts, config = evaluation.run, evaluation.parts, evaluation.parts.config
    first, target = role == parts.program.role, evaluation.folder_of(role)
    with jax.set_mesh(parts.mesh):
        saved = weights.restore(parts, run.workdir, run.run_id, evaluation.every_checkpoint)
        start = Row("start", saved.start_name)
        held_out = {n: TRAINED if n == saved.latest else checkpoint_row(n) for n in saved.states}
        players = {start: saved.starts[role]} | {held_out[n]: saved.trained(role, n) for n in saved.states}
        # The draws do not depend on the run's seed: runs of several seeds are compared on the same episodes.
        played = arena(parts, role, weights.against(parts, saved, role)).evaluate(players, jax.random.key(0))
    if not distributed.is_first():
        return ""
    settings = _settings(evaluation, saved.latest, role, played.solution)
    inputs, episodes, iterations = parts.inputs(), [], {start: 0} | {row: n for n, row in held_out.items()}
    for row, trajectory in played.trajectories.items():
        own = common(run, config, inputs, role, row)
        if row in iterations:
            own["versions"] |= {SIDES[role]: version(run, iterations[row])}
        episodes += recording.record(trajectory, parts.test_tables, parts.test, parts.dialect.tokenizer, own)
    note, planned = "", config.training.iterations
    if saved.latest < planned:
        note = f"\nThe run is not at its end: this is after {saved.latest} of {planned} iterations.\n"
    if len(parts.programs) > 1 and config.catalog.name == "uniform":
        note += _beyond_equilibrium(episodes)
    curves, references = None, {}
    if first and not any(within(name, _TRAINED_ON) for name in evaluation.overrides):
        # Else the curves are of another game, or of the other side.
        curves = metrics.curves(run.workdir)
        landmarks = [row for row in played.scripts if row.kind != "scripted"] + list(played.scripts)[:1]
        on_training = {row: played.scripts[row] for row in landmarks}
        references = arena(parts, role).play_on_training(on_training, jax.random.key(1))
    with storage.staged(target) as folder:
        points, shown = {0: start} | held_out, config.evaluation.transcripts
        text = reports.write(folder, episodes, settings, curves, references, points, shown)
        with (folder / "table.md").open("a", encoding="utf-8") as table:
            table.write(note)
    return text + note


def _beyond_equilibrium(episodes: list[Episode]) -> str:
    """A warning where two sides that have learned realize more of the gains from trade than an equilibrium can.

    The bound is of players paid the surplus itself, not a share of it as here: see `catalog.synthetic.uniform`.
    """
    realized = statistics.totals([own for own in episodes if own.row == TRAINED])[TRAINED]["efficiency"]
    share = realized[0].sum() / realized[1].sum()
    if share <= 27 / 32:
        return ""
    return (
        f"\nWarning: the trained pair realizes {share:.3f} of the gains from trade. Where values are uniform, no "
        "equilibrium between players paid the surplus itself realizes more than 27/32: what one side knows may leak.\n"
    )


def common(run: "Run", config: Config, inputs: Mapping[str, str], role: int, row: Row) -> dict[str, Any]:
    """The fields that all episodes of one row share, in an evaluation or in training. inputs: digests."""
    made = inputs.get("seller.checkpoint" if config.seller.model == "own" else "model.checkpoint", run.run_id)
    seats = {"buyer": row, "seller": seller(config)}
    if role == SELLER:
        seats = {"buyer": Row("scripted", buyer(config)), "seller": row.label, "selling": row}
    return {
        "run": run.run_id,
        "seed": config.seed,
        **seats,
        "persona": config.game.persona.name,
        "rules": Rules(config.game.turns, config.game.regulation, config.game.reward, config.catalog.prices),
        "versions": {} if role == SELLER or config.seller.model == "scripted" else {"seller": made},
    }


def version(run: "Run", iterations: int) -> str:
    """Names what a run has trained after so many iterations."""
    return f"{run.run_id} after {iterations} iterations"


def arena(parts: Parts, role: int, frozen: Frozen = NOTHING_FROZEN) -> Arena:
    """Where a learner of this role is played; the best response is found on the training products."""
    config, prior = parts.config, products(normalize(parts.train))
    tables = (parts.test_tables, parts.train_tables)
    return Arena(parts.programs[role], frozen, config.evaluation, *tables, prior, config.game.seller)


def changes(run: "Run", overrides: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """The configuration of a run on other terms, and its fields that differ, by dotted name.

    Raises ValueError for a field that does not fit, or that evaluation does not read.
    """
    overrides = traverse_util.flatten_dict(dict(overrides), sep=".")
    for side in SIDES:
        if overrides.get(f"{side}.model", "own") != "own":  # Which reads no checkpoint.
            overrides.setdefault(f"{side}.checkpoint", None)
    config = assembly.with_absolute_paths(override(run.config, overrides))
    before, after = flat(run.config), flat(config)
    changed = {name: value for name, value in after.items() if json.dumps(value) != json.dumps(before[name])}
    for name in changed:
        _require_evaluated(name, config)
    return config, changed


def parts_of(run: "Run", config: Config, changed: Mapping[str, Any]) -> Parts:
    """The parts of a run on the terms that `changes` gives, with the run's own tokenizer.

    Raises ValueError as `assembly.assemble`, for an input that is not the run's, or if it has not been trained.
    """
    if not changed:
        return run.parts
    if run.saved is None:
        raise ValueError(f"--workdir={run.workdir}: the run has not been trained yet. Train it first.")
    parts = assembly.assemble(config, run.saved_dialect())
    inputs, trained_on = parts.inputs(), run.config.catalog
    if inputs["catalog"] == run.saved["inputs"].get("catalog") and config.catalog.test > trained_on.test:
        raise ValueError(
            f"config.catalog.test={config.catalog.test}: the run holds out {trained_on.test} products and was trained "
            f"on the others. Give {trained_on.test} at most."
        )
    if {"catalog.name", "catalog.data_dir"} & set(changed):
        del inputs["catalog"]  # Other products.
    for side in SIDES:
        if {f"{side}.checkpoint", f"{side}.model"} & set(changed):
            inputs.pop(f"{side}.checkpoint", None)  # Another opponent.
    manifest.require_inputs(run.workdir, run.saved, inputs, some=True)
    return parts


def _require_evaluated(name: str, config: Config) -> None:
    """Raises ValueError, with the reason, if a field cannot differ between a run and an evaluation of it."""
    known = (reason for field, reason in _REFUSED.items() if within(name, (field,)))
    reason = next(known, "it only matters in training")
    if name == "language.vocab_size" or not within(name, EVALUATED):
        raise ValueError(f"config.{name} cannot be changed for an evaluation: {reason}. Leave it out.")
    for side in SIDES:
        own = getattr(config, side)
        if own.model == "own" and own.checkpoint is None and name in (f"{side}.model", f"{side}.checkpoint"):
            raise ValueError(
                f"config.{side}.model='own' without config.{side}.checkpoint is a {side} that the run itself has made. "
                "Name a checkpoint, or use 'base' or 'scripted'."
            )


def _folder_name(overrides: Mapping[str, Any], others: Mapping[str, str], every_checkpoint: bool) -> str:
    """`report`, and what is different about it: legible, and another name for other settings or inputs (digests)."""
    told = {name: value for name, value in overrides.items() if not within(name, ("mesh", *PATHS))} | dict(others)
    name = f"{REPORT}_checkpoints" if every_checkpoint else REPORT
    if not told:
        return name
    legible = re.sub(r"[^\w.=-]+", "_", ",".join(f"{field.split('.')[-1]}={value}" for field, value in told.items()))
    return f"{name}_{legible.strip('_')[:60]}_{manifest.digest(json.dumps(told, sort_keys=True).encode())[:6]}"


def _settings(evaluation: Evaluation, iterations: int, role: int, solved: Solution | None) -> tables.Settings:
    run, parts, config = evaluation.run, evaluation.parts, evaluation.parts.config
    return tables.Settings(
        catalog=config.catalog.name,
        products=len(parts.test),
        episodes=config.evaluation.episodes,
        prices=config.catalog.prices,
        decoding=config.language.decoding if role == BUYER else config.seller.decoding,
        seller=seller(config) if role == BUYER else "",
        buyer=buyer(config) if role == SELLER else "",
        runs=(tables.TrainedRun(run.run_id, config.seed, iterations),),
        identity=terms(evaluation),
        command=evaluation.command,
        bounds=solved and (solved.lower, solved.upper, solved.clairvoyant),
    )


def terms(evaluation: Evaluation) -> dict[str, Any]:
    """What is played, and what the reports of pooled runs must agree in: fields by dotted name, inputs by digest."""
    config = flat(evaluation.parts.config)
    return {name: value for name, value in config.items() if not within(name, _ANY)} | evaluation.parts.inputs()


def seller(config: Config) -> str:
    """Who sells, in a few words."""
    if config.seller.model == "scripted":
        return config.game.seller
    return f"{config.game.persona.name}, played by {_model(config, config.seller)}"


def buyer(config: Config) -> str:
    """Who buys from a seller that learns, in a few words."""
    return ", ".join(config.buyer.policies) if config.buyer.model == "scripted" else _model(config, config.buyer)


def _model(config: Config, own: BuyerConfig | SellerConfig) -> str:
    learned = "the other learner" if config.learner.role == "both" else "a cloned model"
    named = "the learner's base" if own.model == "base" else own.checkpoint or learned
    return f"{named} at temperature {own.sampling.temperature:g}"
