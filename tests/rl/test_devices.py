"""Eight devices do what one does. A process of its own, since the number of devices is fixed when jax starts."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

_PROGRAM = """
import dataclasses, json, pathlib, sys
import jax
import numpy as np
from experiments import setup
from experiments.configs import quickstart
from negot_jax import config as door
from negot_jax.models import sharding
from negot_jax.rl import learner

config = quickstart.get_config(sys.argv[1])
config.game.turns = 2
config.language.update(vocab_size=512, text_tokens=2, message_tokens=32)
config.model.update(layers=1, width=16, heads=1, head_dim=16, mlp=32)
config.learner.update(scenarios=16, group=2, minibatches=1, micro_batches=2)
config.training.iterations = 2
config.optimizer.warmup = 0
run = setup.prepare(door.from_config_dict(setup.Config, config), pathlib.Path(sys.argv[2]), lambda line: None)
results, compiled = [], []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
)
for devices in (1, 8):
    with jax.set_mesh(sharding.make(sharding.MeshConfig(), jax.devices()[:devices])):
        state = sharding.place(run.learner.init_state(run.key, run.init_weights()))
        env, history = sharding.place(run.train_env), []
        for _ in range(2):
            state, metrics = learner.train_step(run.learner, state, env)
            scalars = {name: [float(x) for x in pair] for name, pair in metrics.items()}
            history.append(scalars | {"compiled": len(compiled)})
        leaves = jax.tree.leaves(state.weights)
        results.append({
            "history": history,
            "devices": sorted({len(x.sharding.device_set) for x in leaves}),
            "weights": [np.asarray(x).ravel().tolist() for x in leaves],
        })
print(json.dumps(results))
"""


@pytest.fixture(scope="module", params=["grpo", "ppo"])
def one_and_eight(request, tmp_path_factory):
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, request.param, str(tmp_path_factory.mktemp("run"))],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_metrics_and_weights_are_the_same(one_and_eight):
    """Loss, gradient and every metric of two iterations, the second after an update."""
    one, eight = one_and_eight
    assert (one["devices"], eight["devices"]) == ([1], [8])
    for ours, expected in zip(eight["history"], one["history"], strict=True):
        assert ours.keys() == expected.keys()
        for name in expected.keys() - {"compiled"}:
            (total, weight), (other, expected_weight) = ours[name], expected[name]
            assert weight == expected_weight, name
            # By the mean: a loss is a sum of terms that cancel, and keeps their rounding.
            mean = np.divide([total, other], max(weight, 1))
            np.testing.assert_allclose(mean[0], mean[1], rtol=1e-4, atol=1e-5, err_msg=name)
    for ours, expected in zip(eight["weights"], one["weights"], strict=True):
        assert np.quantile(np.abs(np.subtract(ours, expected)), 0.99) < 1e-5


def test_nothing_compiles_after_the_first_iteration(one_and_eight):
    for run in one_and_eight:
        counts = [iteration["compiled"] for iteration in run["history"]]
        assert counts[0] == counts[1]
