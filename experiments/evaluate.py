"""Evaluates a trained run on held-out products, beside its warm start and the scripted buyers.

  python -m experiments.evaluate --workdir=DIR [--catalog=amazon_history_price --data_dir=DATA]

Writes DIR/report: evaluation.json, table.md, figures, transcripts.md. With another catalogue than the run's, the
report goes to DIR/report_<catalog>.
"""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
import shlex
import sys

from absl import app, flags, logging
import jax

from experiments import setup
from negot_jax import config as door
from negot_jax.evaluation import arena, tables
from negot_jax.evaluation import report as reports
from negot_jax.rl import learner
from negot_jax.training.checkpoint import Checkpoints
from negot_jax.training.metrics import read_csv

if __name__ == "__main__":  # Flags are global: as a module, this one defines none.
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run made by experiments.train.", required=True)
    _CATALOG = flags.DEFINE_string(
        "catalog", None, "Another catalogue than the run's own: generated or amazon_history_price."
    )
    _DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of that catalogue's JSON files.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.ERROR)
    workdir = pathlib.Path(_WORKDIR.value)
    path = workdir / "manifest.json"
    if not path.exists():
        sys.exit(f"error: --workdir={workdir} holds no run (no manifest.json). Train one with experiments.train.")
    try:
        config = door.from_config_dict(setup.Config, json.loads(path.read_text())["config"])
        name, options = "report", []
        if _CATALOG.value or _DATA_DIR.value:
            catalog = _CATALOG.value or config.catalog.name
            other = dataclasses.replace(config.catalog, name=catalog, data_dir=_DATA_DIR.value)
            config = dataclasses.replace(config, catalog=other)
            name, options = f"report_{catalog}", [f"--catalog={catalog}"]
            options += [f"--data_dir={_DATA_DIR.value}"] if _DATA_DIR.value else []
        run = setup.prepare(config, workdir)
    except (ValueError, TypeError) as error:
        sys.exit(f"error: {error}")
    print(report(run, workdir, name, options))


def report(run: setup.Run, workdir: pathlib.Path, name: str = "report", options: Sequence[str] = ()) -> str:
    """Plays the held-out products and writes the report to workdir/name; returns its tables as text.

    Args:
      options: the flags besides the workdir with which this report is made again.
    """
    config = run.config
    weights = run.init_weights()
    with Checkpoints(workdir / "warm_start", keep=1) as warm:
        start, _ = warm.restore(warm.latest, weights)
    target = learner.init_state(run.key, weights, run.learner.make_optimizer())
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        if checkpoints.latest is None:
            sys.exit(f"error: {workdir}/checkpoints is empty: the run has not reached its first checkpoint yet.")
        state, _ = checkpoints.restore(checkpoints.latest, target)
    # The draws do not depend on the run's seed: runs of several seeds are compared on the same episodes.
    outcomes, trajectories = arena.evaluate(
        run.learner.model,
        {"warm start": start, "trained": state.weights},
        config.evaluation,
        run.test_env,
        run.train_env,
        jax.random.key(0),
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
    )
    written = reports.transcribe(
        "trained", config.evaluation.transcripts, trajectories["trained"], run.test_env, run.test, run.tokenizer
    )
    curves = read_csv(workdir / "metrics.csv")
    levels = ["warm start", *config.evaluation.buyers[:2], list(outcomes)[-1]]
    return reports.write(workdir / name, outcomes, settings, written, curves, levels)


if __name__ == "__main__":
    app.run(main)
