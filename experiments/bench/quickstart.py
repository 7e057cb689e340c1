"""Where the quickstart's time goes: a run with a share of its steps, whose times a step are scaled to the whole.

python -m experiments.bench.quickstart [--share=10]

Compilation is what JAX reports, and is left out of the other lines; the report is made in full.
"""

import dataclasses
import json
import tempfile
import time

from absl import flags
import jax

from experiments import cli
from experiments.configs import quickstart
from negot_jax import run
from negot_jax.run import config as configs
from negot_jax.training.metrics import METRICS, read_csv

_COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass
class _Clock:
    """Seconds since it was last asked, and of these the ones that compilation took."""

    at: float = dataclasses.field(default_factory=time.perf_counter)
    compiled: float = 0.0

    def compiling(self, event: str, seconds: float, **_) -> None:
        self.compiled += seconds if event == _COMPILED else 0.0

    def lap(self) -> tuple[float, float]:
        now = time.perf_counter()
        elapsed, compiled = now - self.at, self.compiled
        self.at, self.compiled = now, 0.0
        return elapsed - compiled, compiled


def measure(config: run.Config, share: int) -> dict[str, float]:
    """Seconds by part of a run."""
    part = {
        "warm_start.steps": config.warm_start.steps // share,
        "training.iterations": config.training.iterations // share,
    }
    clock = _Clock()
    jax.monitoring.register_event_duration_secs_listener(clock.compiling)
    with tempfile.TemporaryDirectory() as folder:
        buyer = run.build(configs.override(config, part), folder)
        evaluation = buyer.prepare_evaluation()
        built, compiled = clock.lap()
        buyer.train()
        trained, training_compiled = clock.lap()
        steps = read_csv(buyer.workdir / METRICS)["perf/step_seconds"]
        iteration = float(steps[1:].mean())  # The first one compiles.
        evaluation.report()
        reported, report_compiled = clock.lap()
    cloning = trained - iteration * len(steps)
    parts = {
        "catalog, tokenizer, tables": built,
        "compilation": compiled + training_compiled + report_compiled,
        "warm start": cloning * share,
        "reinforcement learning": iteration * config.training.iterations,
        "report": reported,
    }
    return parts | {"whole": sum(parts.values())}


def main() -> None:
    print(json.dumps(measure(configs.load(quickstart.get_config()), _SHARE.value)))


if __name__ == "__main__":
    _SHARE = flags.DEFINE_integer("share", 10, "Runs one in this many of the steps.", lower_bound=1)
    cli.run(main)
