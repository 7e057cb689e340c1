"""Checkpoints: what is read is what was written, bit for bit, and what does not fit is named."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from negot_jax.models import hf_checkpoint, hf_config, lora, transformer
from negot_jax.models.presets import LoraConfig, ModelConfig
from negot_jax.models.sharding import leaf_name

CONFIG = ModelConfig(vocab_size=20, layers=2, width=8, heads=3, kv_heads=1, head_dim=4, mlp=12, dtype="float32")
SETTINGS = {
    "model_type": "qwen3",
    "vocab_size": 20,
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "intermediate_size": 12,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def weights():
    return jax.jit(transformer.init, static_argnums=1)(jax.random.key(0, impl="unsafe_rbg"), CONFIG)


@pytest.fixture
def folder(tmp_path, weights):
    """A checkpoint of CONFIG in one file."""
    (tmp_path / "original").mkdir()
    (tmp_path / "original/config.json").write_text(json.dumps(SETTINGS))
    hf_checkpoint.save(tmp_path / "folder", CONFIG, weights, tmp_path / "original")
    return tmp_path / "folder"


def _assert_equal(a, b):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and (np.asarray(x) == np.asarray(y)).all(), leaf_name(path)


def _change(folder, **tensors):
    """Replaces tensors of the only file, or removes those that are None."""
    held = load_file(folder / "model.safetensors") | tensors
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, folder / "model.safetensors")


def test_saved_and_loaded_weights_are_the_same(folder, weights):
    assert hf_config.read(folder) == CONFIG
    _assert_equal(hf_checkpoint.load(folder, CONFIG), weights)


def test_many_files_and_their_index(tmp_path, folder, weights, monkeypatch):
    monkeypatch.setattr(hf_checkpoint, "_SHARD_BYTES", 1500)
    hf_checkpoint.save(tmp_path / "cut", CONFIG, weights, folder)
    index = json.loads((tmp_path / "cut/model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert index["metadata"]["total_size"] == sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    assert all(sum(x.nbytes for x in load_file(tmp_path / "cut" / file).values()) <= 1500 for file in files)
    _assert_equal(hf_checkpoint.load(tmp_path / "cut", CONFIG), weights)
    (tmp_path / "cut" / files[1]).unlink()
    with pytest.raises(ValueError, match=f"{files[1]} not found.*incomplete"):
        hf_checkpoint.load(tmp_path / "cut", CONFIG)


def test_weights_take_the_type_that_is_asked_for(folder, weights):
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), weights)
    loaded = hf_checkpoint.load(folder, CONFIG, dtype="bfloat16")
    _assert_equal(loaded, rounded)
    hf_checkpoint.save(folder.parent / "rounded", CONFIG, loaded, folder)
    assert hf_config.read(folder.parent / "rounded").dtype == "bfloat16"
    _assert_equal(hf_checkpoint.load(folder.parent / "rounded", CONFIG), rounded)


def test_weights_do_not_follow_their_file(folder, weights):
    """An array that shared its memory with the file would."""
    loaded = hf_checkpoint.load(folder, CONFIG)
    with open(folder / "model.safetensors", "r+b") as file:
        size = file.seek(0, 2)
        file.seek(0)
        file.write(b"\0" * size)
    _assert_equal(loaded, weights)


def test_a_second_copy_of_a_tied_embedding_is_passed_over(folder, weights):
    copy = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    _change(folder, **{"lm_head.weight": copy})
    _assert_equal(hf_checkpoint.load(folder, CONFIG), weights)
    for other in (copy + 1, copy[:1], copy.astype(np.float16)):
        _change(folder, **{"lm_head.weight": other})
        with pytest.raises(ValueError, match="ties lm_head.weight .*, but they differ. Set tie_word_embeddings"):
            hf_checkpoint.load(folder, CONFIG)


def test_an_older_index_beside_a_single_file_is_not_read(folder, weights):
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    _assert_equal(hf_checkpoint.load(folder, CONFIG), weights)


def test_adapters_are_merged_into_what_is_saved(folder, weights):
    config = dataclasses.replace(CONFIG, lora=LoraConfig(rank=2, targets=("query", "down")))
    adapters = jax.tree.map(lambda x: x + 0.1, lora.init(jax.random.key(1), config.lora, weights))
    adapted = lora.join({"lora": adapters}, weights)
    hf_checkpoint.save(folder.parent / "merged", config, adapted, folder)
    _assert_equal(hf_checkpoint.load(folder.parent / "merged", config), lora.merge(config.lora, adapted))


def test_tokenizer_files_are_copied(tmp_path, folder, weights):
    names = ["tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja", "merges.txt"]
    for name in names:
        (folder / name).write_text(name)
    (folder / "notes.md").write_text("")
    hf_checkpoint.save(tmp_path / "copy", CONFIG, weights, folder)
    copied = {path.name for path in (tmp_path / "copy").iterdir()}
    assert copied == {*names, "config.json", "model.safetensors"}
    assert all((tmp_path / "copy" / name).read_text() == name for name in names)


def test_missing_extra_and_misshapen_tensors_are_named(folder):
    name = "model.layers.1.self_attn.{}.weight".format
    extra = {"model.layers.2.mlp.up_proj.weight": np.ones((12, 8), np.float32)}
    _change(folder, **{name("k_proj"): None, name("o_proj"): np.ones((12, 8), np.float32)}, **extra)
    with pytest.raises(ValueError) as error:
        hf_checkpoint.load(folder, CONFIG)
    message = str(error.value)
    assert f"1 missing: {name('k_proj')}." in message
    assert "1 not known: model.layers.2.mlp.up_proj.weight." in message
    assert f"1 of another shape: {name('o_proj')} [12, 8] in place of [8, 12]." in message


def test_an_unsupported_type_is_named(folder):
    _change(folder, **{"model.norm.weight": np.ones(8, np.int8)})
    with pytest.raises(ValueError, match="1 of an unsupported type: model.norm.weight I8"):
        hf_checkpoint.load(folder, CONFIG)


def test_a_file_that_was_cut_off_is_named(folder):
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(file.seek(0, 2) - 1)
    with pytest.raises(ValueError, match="model.safetensors was cut off"):
        hf_checkpoint.load(folder, CONFIG)


def test_nothing_is_overwritten(folder, weights):
    with pytest.raises(ValueError, match="is not empty"):
        hf_checkpoint.save(folder, CONFIG, weights, folder)


_SHARDED = """
import sys, jax, numpy as np
from negot_jax.models import hf_checkpoint, hf_config, sharding

config = hf_config.read(sys.argv[1])
whole = hf_checkpoint.load(sys.argv[1], config)
mesh = sharding.make(sharding.MeshConfig(fsdp=2, expert=2), jax.devices())
with jax.set_mesh(mesh):
    cut = hf_checkpoint.load(sys.argv[1], config)
for a, b, s in zip(*map(jax.tree.leaves, (whole, cut, sharding.shardings(whole, mesh))), strict=True):
    assert b.sharding == s and (np.asarray(a) == np.asarray(b)).all()
assert cut["blocks"]["mlp"]["gate"][...].addressable_shards[0].data.shape[1] == config.experts // 2
"""


def test_weights_are_sharded_over_the_current_mesh(tmp_path):
    """In a process of its own, which has four devices."""
    config = dataclasses.replace(CONFIG, heads=4, experts=6, active_experts=2)
    settings = SETTINGS | {"model_type": "qwen3_moe", "num_attention_heads": 4, "num_experts": 6}
    settings |= {"num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    weights = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0, impl="unsafe_rbg"), config)
    hf_checkpoint.save(tmp_path / "folder", config, weights, tmp_path)
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"}
    command = [sys.executable, "-c", _SHARDED, str(tmp_path / "folder")]
    done = subprocess.run(command, env={"JAX_PLATFORMS": "cpu", **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
