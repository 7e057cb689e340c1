"""Where the quickstart's time goes: a run with a share of its steps, whose times a step are scaled to the whole.

python -m experiments.bench.quickstart [--share=10]

Compilation is what JAX reports, and is left out of the other lines; the report is made in full. What training does
once, such as writing its last checkpoint, counts as warm start and is scaled with it.
"""

import json
import tempfile
import time

from absl import flags
import jax
import numpy as np

from experiments import cli
from experiments.configs import quickstart
from negot_jax import run
from negot_jax.run import config as configs
from negot_jax.training.metrics import METRICS, read_csv

_COMPILED = "/jax/core/compile/backend_compile_duration"


def measure(config: run.Config, share: int) -> dict[str, float]:
    """Seconds by part of a run."""
    steps = {"warm_start.steps": config.warm_start.steps, "training.iterations": config.training.iterations}
    short = {name: count // share for name, count in steps.items()}
    durations = [0.0]
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: durations.append(seconds) if event == _COMPILED else None
    )
    mark = lambda: (time.perf_counter(), sum(durations))
    with tempfile.TemporaryDirectory() as folder:
        marks = [mark()]
        buyer = run.build(configs.override(config, short), folder)
        evaluation = buyer.prepare_evaluation()
        marks.append(mark())
        buyer.train()
        marks.append(mark())
        iterations = read_csv(buyer.workdir / METRICS)["perf/step_seconds"]
        evaluation.report()
        marks.append(mark())
    elapsed, compiled = np.diff(marks, axis=0).T
    built, trained, reported = (elapsed - compiled).tolist()
    iteration = float(iterations[1:].mean())  # The first one compiles.
    parts = {
        "catalog, tokenizer, tables": built,
        "compilation": float(compiled.sum()),
        "warm start": (trained - iteration * len(iterations)) * steps["warm_start.steps"] / short["warm_start.steps"],
        "reinforcement learning": iteration * config.training.iterations,
        "report": reported,
    }
    return parts | {"whole": sum(parts.values())}


def main() -> None:
    print(json.dumps(measure(configs.load(quickstart.get_config()), _SHARE.value)))


if __name__ == "__main__":
    _SHARE = flags.DEFINE_integer(
        "share",
        10,
        "Runs one in this many of the steps.",
        lower_bound=1,
        upper_bound=quickstart.get_config().training.iterations // 2,  # The first iteration is not timed.
    )
    cli.run(main)
