"""Eight devices do what one does. A process of its own, since the number of devices is fixed when jax starts."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from negot_jax.roofline import hlo
from tests.rl import small

ROOT = pathlib.Path(__file__).parents[2]

_PROGRAM = """
import dataclasses, json, pathlib, sys
import jax
import numpy as np
from negot_jax.models import lora, moe, sharding, transformer
from negot_jax.models.choice import ModelChoice
from negot_jax.models.presets import LoraConfig
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.configs import LearnerConfig, OptimizerConfig
from negot_jax.rl.train_step import Frozen, train_step
from negot_jax.training import checkpoint
from tests.rl import small

workdir, case, meshes = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
products = small.catalog()
words = small.tokenizer(products)
train_tables = small.tables(products, words)
choice = {"layers": 1, "width": 16, "mlp": 32} | case["model"] | {"lora": LoraConfig(rank=case["rank"])}
program = small.program(
    words.vocab_size,
    ModelChoice(**choice),
    config=LearnerConfig(scenarios=16, group=2, minibatches=2, micro_batches=2),
    algorithm=AlgorithmConfig(**case["algorithm"]),
    optimizer=OptimizerConfig(warmup=0, schedule="linear", beta2=0.99),
    iterations=3,
)
model = program.model
results = []
moe._TOKENS = 256  # So that training reads them in pieces.


def restored(state, path):
    # Whether what was saved is read in parts for half of the devices.
    mesh = sharding.make(sharding.MeshConfig(data=1, fsdp=2, tensor=2), jax.devices()[:4])
    layout = sharding.shardings(state, mesh)
    target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, layout)
    read = checkpoint.read(path, target, "a run")
    plain = lambda x: np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
    same = jax.tree.map(lambda a, b, s: a.sharding == s and (plain(a) == plain(b)).all(), read, state, layout)
    return bool(jax.tree.all(same))


for number, sizes in enumerate(meshes):
    devices, key = jax.devices()[: int(np.prod(sizes))], jax.random.key(0)  # A state owns its key.
    with jax.set_mesh(sharding.make(sharding.MeshConfig(*sizes), devices)):
        weights = transformer.with_adapters(key, model, transformer.init(key, model))
        weights = sharding.shard(weights)
        state = sharding.shard(program.init_state(key, weights))
        frozen = Frozen(base=lora.split(weights)[1] if model.lora.rank else None)
        tables, history = sharding.shard(train_tables), []
        layout = jax.tree.map(lambda x: x.sharding, state)
        lowered = train_step.lower(program, state, tables, frozen)
        (workdir / f"{number}.before").write_text(lowered.as_text(dialect="hlo"))
        step = lowered.compile()
        (workdir / f"{number}.after").write_text(step.as_text())
        for _ in range(3):
            state, metrics, _ = step(state, tables, frozen)  # Which takes no state that is laid out otherwise.
            history.append({name: [float(x) for x in pair] for name, pair in metrics.items()})
        checkpoint.write(workdir / str(number), state, "a run")
        leaves = jax.tree.leaves(state.weights)
        results.append({
            "columns": train_tables.buyer.layout.columns,
            "restored": len(devices) == 1 or restored(state, workdir / str(number)),
            "history": history,
            "same_layout": jax.tree.map(lambda x: x.sharding, state) == layout,
            "parts": {sharding.leaf_name(path): x.size // x.addressable_shards[0].data.size
                      for path, x in jax.tree_util.tree_leaves_with_path(state) if not jax.dtypes.issubdtype(
                          x.dtype, jax.dtypes.prng_key)},
            "devices": sorted({len(x.sharding.device_set) for x in leaves}),
            "weights": [np.asarray(x).ravel().tolist() for x in leaves],
        })
print(json.dumps(results))
"""

_DENSE = {"heads": 4, "kv_heads": 2, "head_dim": 8}
_MOE = _DENSE | {"experts": 4, "active_experts": 2}
_GEMMA = _DENSE | {"preset": "gemma3-1b", "window": 16, "layers": 7, "dtype": "float32"}


def _case(model, rank=0, **algorithm) -> dict:
    return {"model": model, "rank": rank, "algorithm": algorithm}


# By name: what is trained, and the meshes besides one device (data, fsdp, tensor, expert).
CASES = {"dense": (_case(_DENSE), [(2, 2, 2, 1)])}
SLOW = {
    "moe": (_case(_MOE | {"replay_experts": True}), [(1, 2, 2, 2)]),
    "dense, one kv head": (_case(_DENSE | {"kv_heads": 1}), [(8, 1, 1, 1), (1, 8, 1, 1), (2, 1, 4, 1)]),
    "moe, more meshes": (_case(_MOE), [(8, 1, 1, 1), (2, 1, 1, 4), (1, 1, 4, 2), (1, 4, 1, 2)]),
    "moe with adapters": (_case(_MOE, rank=2), [(1, 2, 2, 2), (2, 2, 1, 2)]),
    "dense with a critic": (_case(_DENSE, advantage="gae", value_coefficient=0.5), [(2, 2, 2, 1)]),
    "gemma": (_case(_GEMMA), [(2, 2, 2, 1)]),
}


class Meshed(NamedTuple):
    """What a mesh of these sizes did, and its program before and after compilation."""

    sizes: dict[str, int]
    results: dict
    before: str
    after: str


@pytest.fixture(scope="module", params=[*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def runs(request, tmp_path_factory) -> tuple[dict, list[Meshed]]:
    """What one device did, and each mesh."""
    case, meshes = (CASES | SLOW)[request.param]
    workdir = tmp_path_factory.mktemp("run")
    arguments = [str(workdir), json.dumps(case), json.dumps([(1, 1, 1, 1), *meshes])]
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, *others = json.loads(done.stdout.splitlines()[-1])
    found = []
    for number, (sizes, results) in enumerate(zip(meshes, others, strict=True), 1):
        texts = [(workdir / f"{number}.{when}").read_text() for when in ("before", "after")]
        found.append(Meshed(dict(zip(("data", "fsdp", "tensor", "expert"), sizes, strict=True)), results, *texts))
    return one, found


def test_metrics_and_weights_are_the_same(runs):
    """Loss, gradient and every metric of three iterations."""
    one, meshes = runs
    for mesh in meshes:
        assert (one["devices"], mesh.results["devices"]) == ([1], [8])
        for ours, expected in zip(mesh.results["history"], one["history"], strict=True):
            assert ours.keys() == expected.keys()
            for name in expected:
                (total, weight), (other, expected_weight) = ours[name], expected[name]
                # Nearly all are counts; that of the efficiency is a sum of gains.
                np.testing.assert_allclose(weight, expected_weight, rtol=1e-6, err_msg=f"{mesh.sizes} {name}")
                # By the mean: a loss is a sum of terms that cancel, and keeps their rounding.
                mean = np.divide([total, other], max(weight, 1))
                exact = 1e-5 if name == "loss" else 1e-4
                np.testing.assert_allclose(mean[0], mean[1], rtol=exact, atol=1e-5, err_msg=f"{mesh.sizes} {name}")
        for ours, expected in zip(mesh.results["weights"], one["weights"], strict=True):
            assert np.quantile(np.abs(np.subtract(ours, expected)), 0.99) < 1e-5


def test_the_state_comes_back_laid_out_as_it_went_in(runs):
    """So the next iteration is the same program."""
    one, meshes = runs
    assert all(results["same_layout"] for results in (one, *(mesh.results for mesh in meshes)))


def test_a_checkpoint_of_eight_devices_is_read_on_four(runs):
    """Bit for bit, and laid out as the four lie."""
    assert all(mesh.results["restored"] for mesh in runs[1])


def test_weights_and_their_optimizer_state_are_cut(runs):
    for mesh in runs[1]:
        cut = {name: parts for name, parts in mesh.results["parts"].items() if re.search(r"mlp\.gate|down\.[ab]", name)}
        assert len(cut) >= 3  # The weight, and two moments.
        for name, parts in cut.items():
            axes = {"down.a": ("tensor",), "down.b": ("fsdp",)}.get(name[-6:], ("fsdp", "tensor"))
            assert parts == math.prod(mesh.sizes[axis] for axis in (*axes, "expert")), (mesh.sizes, name)


_DECODING = ("while", small.LANGUAGE.message_tokens)


def of_floats(op: hlo.Operation) -> bool:
    return re.search(r" = \(?(f32|bf16)\[", op.text) is not None


def test_no_collective_moves_a_cache(runs):
    """Nothing of three axes moves, one of them that long, and while decoding nothing as large as a layer's."""
    for mesh in runs[1]:
        collectives = [op for op in hlo.operations(mesh.after) if op.kind in hlo.COLLECTIVES]
        moved = [op for op in collectives if op.kind != "all-reduce" and of_floats(op)]
        # From 65 columns, the first turn, to the whole context; no weight is that large, nor what is said in all, 64
        # tokens, nor the tokens of a micro-batch, 256.
        stretch = range(65, mesh.results["columns"] + 1)
        assert stretch and 256 not in stretch
        assert not [op.text for op in moved for shape in op.shapes if len(shape) >= 3 and set(shape) & set(stretch)]
        decoding = [op for op in collectives if _DECODING in op.around]
        rows = 32 // math.prod(mesh.sizes[axis] for axis in ("data", "fsdp", "expert"))
        tokens = 256 * 16  # That experts read at a time.
        assert decoding and not [op.text for op in decoding if op.size > max(rows * 100 * 8, tokens)]


def test_no_weights_of_experts_are_gathered_along_their_axis(runs):
    for mesh in runs[1]:
        gathers = [op for op in hlo.operations(mesh.after) if op.kind == "all-gather"]
        along = [op for op in gathers if "expert" in hlo.axes(op, mesh.sizes)]
        assert bool(along) == (mesh.sizes["expert"] > 1)  # Of tokens, and of where they go.
        assert not [op.text for op in along if of_floats(op) and any(len(shape) > 2 for shape in op.shapes)]


def test_no_host_is_called_and_nothing_scattered_while_decoding(runs):
    for mesh in runs[1]:
        for op in hlo.operations(mesh.after):
            assert op.kind not in ("infeed", "outfeed", "send", "recv") and "callback" not in op.text, op.text
        rollout = [op for op in hlo.operations(mesh.before) if _DECODING in op.around]
        assert rollout and not [op.text for op in rollout if op.kind == "scatter"]
