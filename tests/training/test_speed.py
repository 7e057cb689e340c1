"""Throughput metrics, and which algorithms rescore an iteration's tokens."""

import dataclasses
import types

import jax
import pytest

from negot_jax.models import presets
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.configs import LearnerConfig, OptimizerConfig
from negot_jax.rl.train_step import Program
from negot_jax.roofline import estimate
from negot_jax.training import loop


def _program(**algorithm):
    return Program(
        dataclasses.replace(presets.preset("tiny"), vocab_size=512),
        LearnerConfig(scenarios=2, group=4, epochs=2),
        AlgorithmConfig(**algorithm),
        SamplingConfig(),
        OptimizerConfig(),
        iterations=1,
    )


@pytest.mark.parametrize(
    ("algorithm", "rescored"),
    [
        ({}, 0),
        ({"kl": "k3", "kl_coefficient": 0.1}, 1),
        ({"kl": "k3", "kl_coefficient": 0.1, "importance_cap": 2.0}, 2),
    ],
)
def test_a_constant_log_prob_costs_a_forward_pass(algorithm, rescored):
    program = _program(**algorithm)
    assert loop.workload(program) == estimate.Workload(program.model, 2, 4, 2, rescored)


def test_utilization_is_reported_for_known_chips_only(monkeypatch):
    program = _program()
    rates = {"perf/episodes_per_second": 4, "perf/tokens_per_second": 400, "perf/sampled_tokens_per_second": 100}
    assert loop.throughput(program, 800, 200, 2.0) == rates
    monkeypatch.setattr(loop.jax, "devices", lambda: [types.SimpleNamespace(device_kind="TPU v5p")])
    share = estimate.per_iteration(loop.workload(program), 800, 200) / 2.0 / 459e12 / jax.device_count()
    assert loop.throughput(program, 800, 200, 2.0)["perf/mfu"] == pytest.approx(share)
