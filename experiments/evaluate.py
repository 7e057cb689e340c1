"""Evaluates a trained run on held-out products, beside its warm start and the scripted buyers.

  python -m experiments.evaluate --workdir=DIR [--catalog=amazon_history_price --data_dir=DATA]

Writes DIR/report: evaluation.json, table.md, figures, transcripts.md. With another catalogue than the run's, the
report goes to DIR/report_<catalog>.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import shlex

from absl import flags
import jax

from experiments import cli, setup
from negot_jax import config as door
from negot_jax.catalog.types import normalise, products
from negot_jax.evaluation import arena, tables
from negot_jax.evaluation import report as reports
from negot_jax.evaluation.statistics import BEST, TUNED
from negot_jax.models import transformer
from negot_jax.rl import learner
from negot_jax.training import checkpoint, manifest
from negot_jax.training.checkpoint import CheckpointError
from negot_jax.training.metrics import read_csv

if __name__ == "__main__":  # Flags are global: as a module, this one defines none.
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run made by experiments.train.", required=True)
    _CATALOG = flags.DEFINE_string(
        "catalog", None, "Another catalogue than the run's own: generated or amazon_history_price."
    )
    _DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of that catalogue's JSON files.")


def main() -> None:
    workdir = pathlib.Path(_WORKDIR.value)
    with cli.checking_input():
        if not (workdir / manifest.FILE).exists():
            raise ValueError(f"--workdir={workdir} holds no run: no {manifest.FILE}. Train one with experiments.train.")
        saved = manifest.read(workdir)
        config = door.from_config_dict(setup.Config, saved["config"])
        name, options = "report", []
        if _CATALOG.value or _DATA_DIR.value:
            catalog = _CATALOG.value or config.catalog.name
            other = dataclasses.replace(config.catalog, name=catalog, data_dir=_DATA_DIR.value)
            config = dataclasses.replace(config, catalog=other)
            name, options = f"report_{catalog}", [f"--catalog={catalog}"]
            options += [f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
        manifest.require_tokenizer(saved, workdir / setup.TOKENIZER)
        run = setup.prepare(config, workdir)
    print(report(run, workdir, manifest.run_id(saved), name, options))


def report(
    run: setup.Run, workdir: pathlib.Path, run_id: str, name: str = "report", options: Sequence[str] = ()
) -> str:
    """Plays the held-out products and writes the report to workdir/name; returns its tables as text.

    Args:
      run_id: names the run that the checkpoints must be of: see `manifest.run_id`.
      options: the flags besides the workdir with which this report is made again.

    Raises:
      CheckpointError: a checkpoint that the report needs is not there, is damaged, or is of another model or run.
      InputError: the metrics are not there, or damaged.
    """
    config = run.config
    start, state = _restore(run, workdir, run_id)
    with cli.checking_input():
        curves = read_csv(workdir / "metrics.csv")
    # The draws do not depend on the run's seed: runs of several seeds are compared on the same episodes.
    outcomes, trajectories, solution = arena.evaluate(
        run.learner.model,
        {"warm start": start, "trained": state.weights},
        config.evaluation,
        run.test_env,
        run.train_env,
        jax.random.key(0),
        products(normalise(run.train)),
    )
    settings = tables.Settings(
        catalog=config.catalog.name,
        products=len(run.test),
        episodes=config.evaluation.episodes,
        prices=config.catalog.prices,
        decoding=config.language.decoding,
        seller=config.game.seller,
        seeds=(config.seed,),
        command=shlex.join(["python", "-m", "experiments.evaluate", f"--workdir={workdir}", *options]),
        bounds=solution and (solution.lower, solution.upper, solution.clairvoyant),
    )
    written = reports.transcribe(
        "trained", config.evaluation.transcripts, trajectories["trained"], run.test_env, run.test, run.tokenizer
    )
    landmarks = [row for row in outcomes if row.startswith((TUNED, BEST))]
    levels = ["warm start", *config.evaluation.buyers[:1], *landmarks]
    text = reports.write(workdir / name, outcomes, settings, written, curves, levels)
    if (done := int(state.iteration)) < config.training.iterations:
        note = f"The run is not at its end: this is its buyer after {done} of {config.training.iterations} iterations."
        with (workdir / name / "table.md").open("a", encoding="utf-8") as table:
            table.write(f"\n{note}\n")
        text += f"\n{note}\n"
    return text


def _restore(run: setup.Run, workdir: pathlib.Path, run_id: str) -> tuple[transformer.Weights, learner.TrainState]:
    """The weights of the warm start and the latest state that is whole. Changes nothing: the run may still go on."""
    weights = run.init_weights()
    if damage := checkpoint.damage(workdir / "warm_start"):
        raise CheckpointError(f"{workdir / 'warm_start'} is damaged: {damage}. The training command makes it anew.")
    start = checkpoint.read(workdir / "warm_start", weights, run_id)
    whole, damaged = checkpoint.survey(workdir / "checkpoints")
    if not whole:
        raise CheckpointError(f"{workdir}/checkpoints is empty: the run has not reached its first checkpoint yet.")
    for iteration, reason in damaged.items():
        print(f"{workdir}/checkpoints/{iteration} is damaged: {reason}. The latest whole one is {whole[-1]}.")
    target = run.learner.init_state(run.key, weights)
    return start, checkpoint.read(workdir / "checkpoints" / str(whole[-1]), target, run_id)


if __name__ == "__main__":
    cli.run(main)
