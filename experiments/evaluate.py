"""Evaluates a trained run on held-out products, beside its warm start and the scripted buyers.

  python -m experiments.evaluate --workdir=DIR [--catalog=amazon_history_price --data_dir=DATA] [--every_checkpoint]
      [--mesh=data=-1]

Writes DIR/report: evaluation.json, table.md, figures, transcripts.md. With another catalogue than the run's, the
report goes to DIR/report_<catalog>. With every checkpoint, earlier ones that were kept are rows as well, and points of
the learning curves, which shows how the gap to the best response falls: into DIR/report_checkpoints.
"""

from collections.abc import Sequence
import dataclasses
import shlex
from typing import Any

from absl import flags
from etils import epath
import jax

from experiments import cli, setup
from negot_jax import config as door
from negot_jax.catalog.types import normalise, products
from negot_jax.evaluation import arena, tables
from negot_jax.evaluation import report as reports
from negot_jax.evaluation.statistics import BEST, TUNED
from negot_jax.language import hf_tokenizer
from negot_jax.models import sharding, transformer
from negot_jax.rl.train_step import Frozen
from negot_jax.rl.updates import TrainState
from negot_jax.training import checkpoint, distributed, manifest, storage
from negot_jax.training.checkpoint import CheckpointError
from negot_jax.training.metrics import read_csv

if __name__ == "__main__":  # Flags are global: as a module, this one defines none.
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run made by experiments.train.", required=True)
    _CATALOG = flags.DEFINE_string(
        "catalog", None, "Another catalogue than the run's own: generated or amazon_history_price."
    )
    _DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of that catalogue's JSON files.")
    _MESH = flags.DEFINE_string("mesh", None, cli.MESH_HELP)
    _EVERY = flags.DEFINE_bool("every_checkpoint", False, "Play the earlier checkpoints that were kept as well.")

_AFTER = "after {} iterations".format  # The row of an earlier checkpoint.


def main() -> None:
    with cli.checking_input():
        workdir = cli.workdir(_WORKDIR.value)
        saved, config = read_run(workdir, _MESH.value)
        name, options = "report", []
        if _CATALOG.value or _DATA_DIR.value:
            catalog = _CATALOG.value or config.catalog.name
            other = dataclasses.replace(config.catalog, name=catalog, data_dir=_DATA_DIR.value)
            config = dataclasses.replace(config, catalog=other)
            name, options = f"report_{catalog}", [f"--catalog={catalog}"]
            options += [f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
        if _EVERY.value:
            name, options = f"{name}_checkpoints", [*options, "--every_checkpoint"]
        run, run_id = prepare(saved, config, workdir)
    with jax.set_mesh(sharding.make(config.mesh)):
        print(report(run, workdir, run_id, name, options, _EVERY.value))


def read_run(workdir: epath.Path, mesh: str | None = None) -> tuple[dict[str, Any], setup.Config]:
    """The manifest of the run in a folder, and its configuration.

    Args:
      mesh: what --mesh names; None for the mesh of the run's last start.

    Raises:
      ValueError: there is no run, or its manifest is damaged; or the mesh is none.
    """
    if not (workdir / manifest.FILE).exists():
        raise ValueError(f"--workdir={workdir} holds no run: no {manifest.FILE}. Train one with experiments.train.")
    saved = manifest.read(workdir)
    layout = saved["starts"][-1]["mesh"] if mesh is None else dataclasses.asdict(cli.mesh(mesh))
    return saved, door.from_config_dict(setup.Config, saved["config"] | {"mesh": layout})


def prepare(saved: dict[str, Any], config: setup.Config, workdir: epath.Path) -> tuple[setup.Run, str]:
    """The parts of a saved run, and the name by which its checkpoints know it.

    Raises:
      ValueError: its tokenizer is not the one that it was trained with.
    """
    config = setup.with_local_checkpoints(config)
    folder = config.model.checkpoint
    manifest.require_tokenizer(saved, hf_tokenizer.find(folder) if folder else workdir / setup.TOKENIZER)
    return setup.prepare(config, workdir), manifest.run_id(saved)


def report(
    run: setup.Run,
    workdir: epath.Path,
    run_id: str,
    name: str = "report",
    options: Sequence[str] = (),
    every_checkpoint: bool = False,
) -> str:
    """Plays the held-out products on the current mesh and writes the report to workdir/name; returns its text.

    All processes of a run call it alike; the first one writes, and the others return nothing.

    Args:
      run_id: names the run that the checkpoints must be of: see `manifest.run_id`.
      options: the flags besides the workdir with which this report is made again.
      every_checkpoint: whether the earlier checkpoints are rows as well.

    Raises:
      CheckpointError: a checkpoint that the report needs is not there, is damaged, or is of another model or run.
      InputError: the metrics are not there, or damaged.
    """
    config = run.config
    weights, frozen, state = restore(run, workdir, run_id, every_checkpoint)
    with cli.checking_input():
        curves = read_csv(workdir / "metrics.csv")
    # The draws do not depend on the run's seed: runs of several seeds are compared on the same episodes.
    outcomes, trajectories, solution = arena.evaluate(
        run.program,
        weights,
        frozen,
        config.evaluation,
        run.test_tables,
        run.train_tables,
        jax.random.key(0),
        products(normalise(run.train)),
    )
    settings = tables.Settings(
        catalog=config.catalog.name,
        products=len(run.test),
        episodes=config.evaluation.episodes,
        prices=config.catalog.prices,
        decoding=config.language.decoding,
        seller=_seller(config),
        seeds=(config.seed,),
        command=shlex.join(["python", "-m", "experiments.evaluate", f"--workdir={workdir}", *options]),
        bounds=solution and (solution.lower, solution.upper, solution.clairvoyant),
    )
    written = reports.transcribe(
        "trained",
        config.evaluation.transcripts,
        trajectories["trained"],
        run.test_tables,
        run.test,
        run.dialect.tokenizer,
    )
    landmarks = [row for row in outcomes if row.startswith((TUNED, BEST))]
    levels = [*list(weights)[:1], *config.evaluation.buyers[:1], *landmarks]
    done, note = int(state.iteration), ""
    held_out = {n: _AFTER(n) for n in range(done) if _AFTER(n) in weights} | {done: "trained"}
    if done < config.training.iterations:
        note = (
            f"\nThe run is not at its end: this is its buyer after {done} of {config.training.iterations} iterations.\n"
        )
    if not distributed.is_first():
        return ""
    with storage.staged(workdir / name) as folder:
        text = reports.write(folder, outcomes, settings, written, curves, levels, held_out)
        with (folder / "table.md").open("a", encoding="utf-8") as table:
            table.write(note)
    return text + note


def _seller(config: setup.Config) -> str:
    """Who sells, for the table."""
    if config.seller.model == "scripted":
        return config.game.seller
    named = "the buyer's base" if config.seller.model == "base" else config.seller.checkpoint or "a cloned model"
    return f"{config.game.persona} ({named}, temperature {config.seller.sampling.temperature:g})"


def restore(
    run: setup.Run, workdir: epath.Path, run_id: str, every_checkpoint: bool = False
) -> tuple[dict[str, transformer.Weights], Frozen, TrainState]:
    """What is trained by row, what is frozen, and the latest state. Changes nothing: the run may still go on.

    Earlier checkpoints are rows where every one is asked for.
    """
    program, weights, seller = run.program, *sharding.place((run.init_weights(), run.init_seller()))
    if run.clones_seller:
        seller = _read_warm_start(workdir / setup.WARM_START_SELLER, seller, run_id)
    frozen = Frozen(base=run.base(weights), opponent=seller)
    named, start = "untrained", program.trained(weights)
    if run.config.warm_start.steps:
        named, start = "warm start", _read_warm_start(workdir / setup.WARM_START, start, run_id)
    whole, damaged = checkpoint.survey(workdir / "checkpoints")
    if not whole:
        raise CheckpointError(f"{workdir}/checkpoints is empty: the run has not reached its first checkpoint yet.")
    for iteration, reason in damaged.items():
        print(f"{workdir}/checkpoints/{iteration} is damaged: {reason}. The latest whole one is {whole[-1]}.")
    target = sharding.place(program.init_state(run.key, weights))
    rows = {named: start}
    for iteration in whole if every_checkpoint else whole[-1:]:
        state = checkpoint.read(workdir / "checkpoints" / str(iteration), target, run_id)
        rows["trained" if iteration == whole[-1] else _AFTER(iteration)] = state.weights
    return rows, frozen, state


def _read_warm_start(path: epath.Path, target: transformer.Weights, run_id: str) -> transformer.Weights:
    if damage := checkpoint.damage(path):
        raise CheckpointError(f"{path} is damaged: {damage}. The training command makes it anew.")
    return checkpoint.read(path, target, run_id)


if __name__ == "__main__":
    cli.run(main)
