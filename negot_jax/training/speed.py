"""Throughput of an iteration, as metrics."""

import jax

from negot_jax.rl.train_step import Program
from negot_jax.roofline import estimate


def workload(program: Program) -> estimate.Workload:
    """The learner's iteration, as `negot_jax.roofline` counts it."""
    config, algorithm = program.config, program.algorithm
    rescored = algorithm.rescores + (algorithm.kl != "none")
    return estimate.Workload(program.model, config.scenarios, config.group, config.epochs, rescored)


def metrics(program: Program, tokens: float, sampled: float, seconds: float) -> dict[str, float]:
    """Tokens per second of the learner's contexts, and model FLOPs utilization on devices whose peak is known."""
    found = {"perf/tokens_per_second": float(tokens) / seconds}
    if chip := estimate.CHIPS.get(jax.devices()[0].device_kind):
        peak = chip.flops * jax.device_count()
        found["perf/mfu"] = estimate.per_iteration(workload(program), float(tokens), sampled) / (seconds * peak)
    return found
