"""The table of specs, what it makes of a mesh's sizes, and which meshes are refused."""

import dataclasses
import functools
import os
import subprocess
import sys

import jax
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P
import optax
import pytest

from negot_jax.models import presets, sharding, transformer, value_head
from negot_jax.models.presets import LoraConfig, ModelConfig
from negot_jax.models.sharding import MeshConfig

LORA = LoraConfig(rank=8)
FAMILIES = ("qwen3-8b", "qwen3-30b-a3b", "gemma3-27b")
SIZES = {"data": 2, "fsdp": 4, "tensor": 2, "expert": 4}


def shapes(name: str) -> dict:
    """The weights of a preset with adapters and a critic, as shapes."""
    config = presets.preset(name, layers=2, lora=LORA, qkv_bias=True)
    make = lambda key: value_head.attach(transformer.init(key, config), config)
    return jax.eval_shape(make, jax.random.key(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_is_in_the_table_and_so_is_its_optimizer_state(name):
    weights = shapes(name)
    state = jax.eval_shape(optax.adamw(1e-3).init, weights)
    specs = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        weight = sharding.leaf_name(path)
        specs[weight] = sharding.spec(weight, leaf.ndim)
        if weight in sharding.SPECS:
            assert len(specs[weight]) == leaf.ndim
        else:
            assert weight.endswith(("norm.scale", ".router")) or weight.startswith("value.")
    moments = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if leaf.ndim:
            (weight,) = [weight for weight in specs if sharding.leaf_name(path).endswith(f"u.{weight}")]
            assert sharding.spec(sharding.leaf_name(path), leaf.ndim) == specs[weight]
            moments += 1
    assert moments >= 2 * (len(specs) - 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_large_arrays_are_cut_by_every_axis_that_can(name):
    """What all devices hold a copy of, along any axis, is small: norms, and the router."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes(name)):
        spec = sharding.spec(sharding.leaf_name(path), leaf.ndim)
        used = {axis for axis in jax.tree.leaves(tuple(spec)) if axis}
        if leaf.size > 3e6 and "lora" not in sharding.leaf_name(path):
            assert {"fsdp", "tensor"} <= used
        if leaf.ndim > 2 and 128 in leaf.shape[1:2] and "a3b" in name:
            assert "expert" in used


@pytest.mark.parametrize(
    ("wanted", "shape", "expected"),
    [
        (P("fsdp", "tensor"), (8, 6), P("fsdp", "tensor")),
        (P("tensor", "fsdp"), (5, 8), P(None, "fsdp")),  # Five do not divide into two.
        (P(sharding.ROWS), (64, 3, 2), P(("data", "fsdp", "expert"))),
        (P(sharding.ROWS), (48, 3), P()),
        (P(None, None), (2, 2), P()),
    ],
)
def test_specs_are_shortest_and_divide(wanted, shape, expected):
    assert sharding.effective_spec(SIZES, wanted, shape) == expected
    assert sharding.effective_spec(dict.fromkeys(SIZES, 1), wanted, shape) == P()


@pytest.mark.parametrize(
    ("config", "devices", "sizes"),
    [
        (MeshConfig(), 1, (1, 1, 1, 1)),
        (MeshConfig(), 8, (8, 1, 1, 1)),
        (MeshConfig(fsdp=2, tensor=2), 8, (2, 2, 2, 1)),
        (MeshConfig(data=1, fsdp=-1, expert=2), 8, (1, 4, 1, 2)),
        (MeshConfig(data=2, fsdp=2, tensor=2), 8, (2, 2, 2, 1)),
    ],
)
def test_one_axis_takes_the_devices_that_are_left(config, devices, sizes):
    assert tuple(config.sizes(devices).values()) == sizes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": 0}, "mesh.data=0: use 1 or more"),
        ({"fsdp": -2}, "mesh.fsdp=-2: use 1 or more"),
        ({"fsdp": -1}, "mesh.data, mesh.fsdp are -1"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MeshConfig(**changes)


def test_a_mesh_that_is_not_the_devices_is_refused_and_a_near_one_named():
    with pytest.raises(
        ValueError,
        match=r"tensor=3.* 8 devices: .* 3, which does not divide.*can: .*tensor=[24]",
    ):
        MeshConfig(tensor=3).sizes(8)
    with pytest.raises(ValueError, match=r"over 8 devices: the axes multiply to 4"):
        MeshConfig(data=2, fsdp=2).sizes(8)


MODEL = ModelConfig(vocab_size=501, width=48, heads=4, kv_heads=2, mlp=96)
MOE = dataclasses.replace(MODEL, experts=6, active_experts=2)


@pytest.mark.parametrize(
    ("model", "config", "rows", "message", "fits"),
    [
        (MODEL, MeshConfig(fsdp=32), {}, "fsdp=32 does not divide model.width=48", "data=2, mesh.fsdp=16"),
        (MODEL, MeshConfig(tensor=8), {}, "tensor=8 does not divide model.heads=4", "mesh.tensor=4"),
        (MOE, MeshConfig(expert=4), {}, "expert=4 does not divide model.experts=6", "mesh.expert=2"),
        (MODEL, MeshConfig(expert=2), {}, "the model has none", "mesh.expert=1"),
        (MODEL, MeshConfig(), {"x": 16}, r"x = 16 cannot be cut over .* = 32 devices", "data=16, .*mesh.tensor=2"),
        (MODEL, MeshConfig(), {"x": 3, "y": 7}, "x = 3 .*; y = 7", "No mesh of these devices fits; change those"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused_and_one_that_does_is_named(model, config, rows, message, fits):
    with pytest.raises(ValueError, match=f"{message}.*{fits}"):
        sharding.require_fit(config, 32, model, rows)


def test_heads_of_keys_and_the_vocabulary_need_not_divide():
    sharding.require_fit(MeshConfig(tensor=4), 8, MODEL, {"rows": 2})


def test_outside_a_mesh_nothing_is_done():
    x = jax.numpy.ones((4, 2))
    for act in (
        sharding.constrain,
        sharding.replicate,
        sharding.shard_rows,
        functools.partial(sharding.shard_rows, axis=1),
    ):
        assert act({"x": x})["x"] is x


@pytest.mark.parametrize("targets", [presets.LORA_TARGETS, ("query", "out"), ("gate",)])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_with_any_adapters_is_traced_on_a_mesh(name, targets):
    mesh = AbstractMesh(tuple(SIZES.values()), sharding.AXES, axis_types=(AxisType.Auto,) * 4)
    config = presets.preset(name, layers=2, vocab_size=512, lora=LoraConfig(rank=8, targets=targets))
    weights = jax.eval_shape(lambda key: transformer.init(key, config), jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((64, 4), "int32")
    with jax.sharding.use_abstract_mesh(mesh):
        forward = lambda weights, tokens: transformer.forward(config, weights, tokens, tokens > 0)[0]
        assert jax.eval_shape(forward, weights, tokens).shape == (64, 4, config.width)


@pytest.mark.parametrize(
    ("mesh", "rows", "count"),
    [
        (MeshConfig(), 16, 8),
        (MeshConfig(), 12, 6),
        (MeshConfig(), 7, 7),
        (MeshConfig(), 1, 1),
        (MeshConfig(tensor=2), 6, 6),
        (MeshConfig(data=3), 12, 3),
        (MeshConfig(data=16), 16, 8),  # `require_fit` refuses it.
    ],
)
def test_as_many_cores_as_fit(mesh, rows, count, monkeypatch):
    cores = jax.devices("cpu") * 8
    monkeypatch.setattr(jax, "devices", lambda: cores)
    assert len(sharding.devices(mesh, MODEL, {"rows": rows})) == count


@pytest.mark.parametrize(
    "chosen", [{}, {"JAX_NUM_CPU_DEVICES": "3"}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}]
)
def test_a_core_is_a_device_unless_the_user_says_otherwise(chosen):
    code = (
        "import jax; from negot_jax.models import sharding; sharding.use_cores(); print(jax.device_count()); "
        "sharding.use_cores()"  # JAX has started.
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    } | chosen
    printed = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert int(printed.stdout) == (3 if chosen else min(len(os.sched_getaffinity(0)), 8))
