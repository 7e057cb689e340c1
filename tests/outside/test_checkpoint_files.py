"""What may happen to the files of a checkpoint: each is one error that names the file and the way out."""

import json
import os
import shutil

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from negot_jax.language import dialect, hf_tokenizer
from negot_jax.models import hf_checkpoint, hf_config, stored, transformer
from tests.language import vocabularies

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 4967215360\n"
HTML = b"<!DOCTYPE html><html><body>Entry not found</body></html>"
VOCAB = 1200
SETTINGS = {
    "model_type": "llama",
    "vocab_size": VOCAB,
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "intermediate_size": 12,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "torch_dtype": "float32",
}
NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint: configuration, weights, tokenizer, template."""
    folder, source = tmp_path_factory.mktemp("outside") / "whole", tmp_path_factory.mktemp("source")
    (source / "config.json").write_text(json.dumps(SETTINGS))
    vocabularies.qwen3(source)
    config = hf_config.read(source)
    weights = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0, impl="unsafe_rbg"), config)
    hf_checkpoint.save(folder, config, weights, source)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def _door(folder):
    """What a run does with a checkpoint before anything else."""
    config = hf_config.read(folder)
    hf_checkpoint.check(folder, config)
    return dialect.infer_chat(folder, hf_tokenizer.load(folder, config.vocab_size))


def _change(folder, **tensors):
    held = load_file(folder / "model.safetensors") | tensors
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, folder / "model.safetensors")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(LFS, "git-lfs pointer.*git lfs pull"), (HTML, "web page"), (b"", "is empty"), (b"\0" * 10_000, "")],
)
def test_a_file_is_not_itself(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"copy/{name}.*{message}"):
        _door(folder)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_was_cut_off(folder, name, share):
    os.truncate(folder / name, int(share * (folder / name).stat().st_size))
    with pytest.raises(ValueError, match=f"copy/{name}"):
        _door(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"metadata": {}}, "index.json has no weight_map"),
        ({"weight_map": {"a": "../whole/model.safetensors"}}, "index.json has no weight_map from tensors to files of"),
        ({"weight_map": {"a": "model-00001-of-00002.safetensors"}}, "model-00001-of-00002.safetensors not found"),
    ],
)
def test_an_index_is_of_no_use(folder, index, message):
    (folder / "model.safetensors").rename(folder / "model-00002-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message):
        _door(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model-00001-of-00001.safetensors"])
def test_weights_lie_under_another_name(folder, name):
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ValueError, match=f"model.safetensors not found.*{name}"):
        _door(folder)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({NAME: None}, f"1 missing: {NAME}"),
        ({NAME: np.ones((8, 12), np.float32)}, rf"1 of another shape: {NAME} \[8, 12\] in place of \[12, 8\]"),
        ({NAME: np.ones((12, 8), np.int8)}, f"1 of an unsupported type: {NAME} I8"),
        ({"other": np.ones(3, np.float32)}, "1 not known: other"),
    ],
)
def test_tensors_do_not_fit(folder, tensors, message):
    _change(folder, **tensors)
    with pytest.raises(ValueError, match=message):
        _door(folder)


def test_what_is_no_weight_is_passed_over(folder):
    _change(folder, **{"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)})
    assert _door(folder).ends == "<|im_end|>"


@pytest.mark.parametrize(
    ("name", "message"), [("Qwen/Qwen3-4B", "hf download Qwen/Qwen3-4B"), ("/no/where", "no such")]
)
def test_there_is_no_folder(name, message):
    for read in (hf_config.read, stored.digest):
        with pytest.raises(ValueError, match=f"{name}.*{message}"):
            read(name)


def test_content_is_known_wherever_it_lies(whole, folder):
    known = stored.digest(whole)
    assert stored.digest(folder) == known and len(known) == 16
    os.utime(folder / "model.safetensors", (0, 0))
    (folder / "README.md").write_text("")
    assert stored.digest(folder) == known
    digests = {known}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((folder / name).read_text() + " ")
        digests.add(stored.digest(folder))
    _change(folder, **{NAME: load_file(folder / "model.safetensors")[NAME] + 1})
    assert len(digests | {stored.digest(folder)}) == 5


def test_large_weights_are_known_by_a_sample(folder, monkeypatch):
    monkeypatch.setattr(stored, "_WHOLE_BYTES", 0)
    known = stored.digest(folder)
    for name, tensor in load_file(folder / "model.safetensors").items():
        kept = shutil.copy(folder / "model.safetensors", folder.parent / "kept")
        _change(folder, **{name: tensor + 1})
        assert stored.digest(folder) != known, name
        shutil.move(kept, folder / "model.safetensors")
    assert stored.digest(folder) == known


def test_what_is_written_is_readable_as_the_umask_says(whole, tmp_path):
    source = shutil.copytree(whole, tmp_path / "source")
    for path in source.iterdir():
        path.chmod(0o400)
    config = hf_config.read(source)
    before = os.umask(0o027)
    try:
        hf_checkpoint.save(tmp_path / "out", config, hf_checkpoint.load(source, config), source)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert set(modes) == {path.name for path in source.iterdir()} and set(modes.values()) == {0o640}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_a_disk_is_full(whole, tmp_path, monkeypatch):
    """Of what was begun nothing is left, at whichever file it happens."""
    config = hf_config.read(whole)
    weights = hf_checkpoint.load(whole, config)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    for module, name in ((hf_checkpoint, "save_file"), (hf_checkpoint.shutil, "copyfile")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, full)
            with pytest.raises(OSError, match="No space left"):
                hf_checkpoint.save(tmp_path / "out", config, weights, whole)
        assert not list(tmp_path.iterdir())


_ANY = st.sampled_from(
    [None, True, -1, 0, 3, 10**30, 0.5, float("nan"), "", "x", "\ud800", [], [None], {}, {"type": "x"}]
)


@st.composite
def _changes(draw, content):
    """Paths into a JSON value, to a depth of three, and what is put there; `_changes` itself stands for dropping it."""
    path, here = [], content
    while isinstance(here, dict | list) and here and (not path or draw(st.booleans())) and len(path) < 3:
        keys = sorted(here) if isinstance(here, dict) else range(min(len(here), 3))
        path.append(draw(st.sampled_from(list(keys))))
        here = here[path[-1]]
    return path, draw(_ANY | st.just(_changes))


def _changed(content, path, value):
    whole = json.loads(json.dumps(content))
    here = whole
    for key in path[:-1]:
        here = here[key]
    if value is _changes:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return whole


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_any_field_is_dropped_or_of_another_type(whole, tmp_path_factory, name):
    """It is as it was, or one error that names the file; never another exception."""
    folder = shutil.copytree(whole, tmp_path_factory.mktemp("fuzz") / "copy")
    content = json.loads((folder / name).read_text())

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_changes(content))
    def attempt(change):
        (folder / name).write_text(json.dumps(_changed(content, *change)))
        try:
            _door(folder)
        except ValueError as error:
            assert str(folder) in str(error), error

    attempt()
