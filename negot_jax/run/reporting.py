"""The report of a run: its buyer, and others beside it, on held-out products; on its own terms or on other ones."""

from collections.abc import Mapping
import dataclasses
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from etils import epath
import jax

from negot_jax.catalog.types import normalize, products
from negot_jax.evaluation import recording, rows, tables
from negot_jax.evaluation import report as reports
from negot_jax.evaluation.arena import Arena, Played
from negot_jax.evaluation.episodes import Episode, Rules
from negot_jax.evaluation.rows import Row
from negot_jax.models import sharding
from negot_jax.rl.train_step import NOTHING_FROZEN, Frozen
from negot_jax.run import assembly, manifest, weights
from negot_jax.run import folder as folders
from negot_jax.run.assembly import Parts
from negot_jax.run.config import EVALUATED, PATHS, Config, flat, override, within
from negot_jax.training import distributed, storage
from negot_jax.training.metrics import METRICS, read_csv

if TYPE_CHECKING:
    from negot_jax.run.run import Run

REPORT = "report"  # In the workdir.

# What the reports of pooled runs may differ in.
_ANY = ("seed", "mesh", "training", "catalog.data_dir", "model.checkpoint", "seller.checkpoint")

# What the curves of training hold for.
_TRAINED_ON = ("catalog.name", "catalog.data_dir", "catalog.prices", "game", "language", "seller")

_REFUSED = {
    "language.vocab_size": "the buyer speaks the tokenizer that it was trained with, and another cannot be compared",
    "sampling": "it is how the buyer samples in training; config.evaluation.sampling is how it samples here",
    "model": "the buyer is the run's; only config.model.checkpoint may name a new place of the same checkpoint",
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
        """Plays it and writes its report."""
        return report(self)


def prepare(
    run: "Run", overrides: Mapping[str, Any], output: str | None = None, every_checkpoint: bool = False
) -> Evaluation:
    """Checks an evaluation of a run's buyer before anything is computed.

    Args:
      overrides: configuration fields, by dotted name or nested, in `config.EVALUATED`.
      output: folder of the report; by default one of the run's folder that is named by the overrides.
      every_checkpoint: whether the run's earlier checkpoints are rows as well.

    Raises:
      ValueError: a field that evaluation does not read, or that does not fit; an input that is not the run's; damaged
        metrics.
    """
    changed = assembly.with_absolute_paths(override(run.config, overrides))
    before, after = flat(run.config), flat(changed)
    overrides = {name: value for name, value in after.items() if json.dumps(value) != json.dumps(before[name])}
    for name in overrides:
        _require_evaluated(name, changed)
    parts = _other_parts(run, changed, overrides) if overrides else run.parts
    if (metrics := run.workdir / METRICS).exists():
        read_csv(metrics)
    if (reason := _arena(parts).unsolvable()) and parts.config.evaluation.best_response:
        print(f"no best response in the report: {reason}")
    command = ["python", "-m", "experiments.evaluate", f"--workdir={run.workdir}"]
    command += [f"--config.{name}={_flag(value)}" for name, value in overrides.items()]
    command += ["--every_checkpoint"] * every_checkpoint + ([f"--output={output}"] if output else [])
    same = run.saved is None or run.saved["inputs"]["catalog"] == parts.catalog_digest
    name = _folder_name(overrides, None if same else parts.catalog_digest, every_checkpoint)
    folder = run.workdir / name if output is None else folders.workdir(output, "--output")
    return Evaluation(run, parts, overrides, every_checkpoint, folder, shlex.join(command))


def report(evaluation: Evaluation) -> Report:
    """Plays the held-out products and writes the report. All processes of a run call it; the first one writes.

    Raises:
      CheckpointError: a checkpoint that the report needs is missing, damaged, or of another model or run.
    """
    run, parts, config = evaluation.run, evaluation.parts, evaluation.parts.config
    with jax.set_mesh(sharding.make(config.mesh)):
        saved = weights.restore(parts, run.workdir, run.run_id, evaluation.every_checkpoint)
        start = Row("start", saved.start_name)
        held_out = {n: rows.TRAINED if n == saved.latest else rows.checkpoint(n) for n in saved.states}
        players = {start: saved.start} | {held_out[n]: state.weights for n, state in saved.states.items()}
        # The draws do not depend on the run's seed: runs of several seeds are compared on the same episodes.
        played = _arena(parts, saved.frozen).evaluate(players, jax.random.key(0))
    bounds = played.solution and (played.solution.lower, played.solution.upper, played.solution.clairvoyant)
    settings = _settings(evaluation, saved.latest, bounds)
    if not distributed.is_first():
        return Report(evaluation.folder, "")
    episodes = _episodes(evaluation, played, {start: 0} | {row: n for n, row in held_out.items()})
    note = ""
    if saved.latest < (planned := config.training.iterations):
        note = f"\nThe run is not at its end: this is its buyer after {saved.latest} of {planned} iterations.\n"
    curves, references = None, {}
    if not any(within(name, _TRAINED_ON) for name in evaluation.overrides):  # Else the curves are of another game.
        curves = read_csv(run.workdir / METRICS)
        landmarks = [row for row in played.buyers if row.kind != "scripted"] + list(played.buyers)[:1]
        on_training = {row: played.buyers[row] for row in landmarks}
        references = _arena(parts).play_on_training(on_training, jax.random.key(1))
    with storage.staged(evaluation.folder) as folder:
        shown = config.evaluation.transcripts
        points = {0: start} | held_out
        text = reports.write(folder, episodes, settings, curves, references, points, shown)
        with (folder / "table.md").open("a", encoding="utf-8") as table:
            table.write(note)
    return Report(evaluation.folder, text + note)


def common(run: "Run", parts: Parts) -> dict[str, Any]:
    """The fields that all episodes of a run's evaluation, or of its training, have alike."""
    config, inputs = parts.config, parts.inputs()
    own = config.seller.model == "own"
    version = inputs.get("seller.checkpoint", run.run_id) if own else inputs.get("model.checkpoint", run.run_id)
    return {
        "run": run.run_id,
        "seed": config.seed,
        "seller": _seller(config),
        "persona": config.game.persona.name,
        "rules": Rules(config.game.turns, config.game.regulation, config.game.reward, config.catalog.prices),
        "versions": {} if config.seller.model == "scripted" else {"seller": version},
    }


def version(run: "Run", iterations: int) -> str:
    """Names a run's buyer after so many iterations."""
    return f"{run.run_id} after {iterations} iterations"


def _episodes(evaluation: Evaluation, played: Played, iterations: Mapping[Row, int]) -> list[Episode]:
    """iterations: that the language models' rows had been trained for."""
    run, parts = evaluation.run, evaluation.parts
    alike, made = common(run, parts), []
    for row, trajectory in played.trajectories.items():
        bought = {"buyer": version(run, iterations[row])} if row in iterations else {}
        own = alike | {"buyer": row, "versions": alike["versions"] | bought}
        made += recording.record(trajectory, parts.test_tables, parts.test, parts.dialect.tokenizer, own)
    return made


def _arena(parts: Parts, frozen: Frozen = NOTHING_FROZEN) -> Arena:
    prior = products(normalize(parts.train))
    return Arena(parts.program, frozen, parts.config.evaluation, parts.test_tables, parts.train_tables, prior)


def _require_evaluated(name: str, config: Config) -> None:
    """Raises ValueError, with the reason, if a field cannot differ between a run and an evaluation of it."""
    reason = next(
        (reason for field, reason in _REFUSED.items() if within(name, (field,))), "it only matters in training"
    )
    if name == "language.vocab_size" or not within(name, EVALUATED):
        raise ValueError(f"config.{name} cannot be changed for an evaluation: {reason}. Leave it out.")
    makes_seller = config.seller.model == "own" and config.seller.checkpoint is None
    if makes_seller and name in ("seller.model", "seller.checkpoint"):
        raise ValueError(
            "config.seller.model='own' without config.seller.checkpoint is a seller that the warm start of a run has "
            "made. Name a checkpoint, or use 'base' or 'scripted'."
        )


def _other_parts(run: "Run", config: Config, overrides: Mapping[str, Any]) -> Parts:
    """The parts of an evaluation on other terms, with the run's own tokenizer."""
    parts = assembly.assemble(config, run.saved_dialect())
    inputs = parts.inputs()
    if {"catalog.name", "catalog.data_dir"} & set(overrides):
        del inputs["catalog"]  # Other products.
    if {"seller.checkpoint", "seller.model"} & set(overrides):
        inputs.pop("seller.checkpoint", None)  # Another seller.
    manifest.require_inputs(run.workdir, run.saved, inputs)
    return parts


def _folder_name(overrides: Mapping[str, Any], products: str | None, every_checkpoint: bool) -> str:
    """`report`, and what is different about it: legible, and another name for other settings or products (a digest)."""
    told = {name: value for name, value in overrides.items() if not within(name, ("mesh", *PATHS))}
    told |= {} if products is None else {"products": products}
    name = f"{REPORT}_checkpoints" if every_checkpoint else REPORT
    if not told:
        return name
    legible = re.sub(r"[^\w.=-]+", "_", ",".join(f"{field.split('.')[-1]}={value}" for field, value in told.items()))
    return f"{name}_{legible.strip('_')[:60]}_{manifest.digest(json.dumps(told, sort_keys=True).encode())[:6]}"


def _flag(value: Any) -> str:
    """A value as ml_collections reads it from the command line."""
    return str(tuple(value)) if isinstance(value, list) else str(value)


def _settings(evaluation: Evaluation, iterations: int, bounds: tuple[float, float, float] | None) -> tables.Settings:
    run, parts, config = evaluation.run, evaluation.parts, evaluation.parts.config
    identity = {name: value for name, value in flat(config).items() if not within(name, _ANY)}
    return tables.Settings(
        catalog=config.catalog.name,
        products=len(parts.test),
        episodes=config.evaluation.episodes,
        prices=config.catalog.prices,
        decoding=config.language.decoding,
        seller=_seller(config),
        runs=(tables.TrainedRun(run.run_id, config.seed, iterations),),
        identity=identity | parts.inputs(),
        command=evaluation.command,
        bounds=bounds,
    )


def _seller(config: Config) -> str:
    """Who sells, for the caption."""
    if config.seller.model == "scripted":
        return config.game.seller
    named = "the buyer's base" if config.seller.model == "base" else config.seller.checkpoint or "a cloned model"
    return f"{config.game.persona.name} ({named}, temperature {config.seller.sampling.temperature:g})"
