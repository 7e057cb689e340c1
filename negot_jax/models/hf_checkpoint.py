"""Checkpoints of the Hugging Face Hub, read into a model's weights and written back.

A tensor at a time goes from the files into the arrays that stack the layers, which may be cut over a mesh: besides
these arrays the host holds one tensor, and of experts those of one layer.
"""

import functools
import itertools
import json
import math
import pathlib
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from negot_jax.models import hf_config, lora, sharding, transformer
from negot_jax.models.presets import ModelConfig

_INDEX = "model.safetensors.index.json"
_LAYER = "model.layers.{layer}."
_SHARD_BYTES = 2**31
_NAMED = 50  # Tensors of each kind in an error, of the thousands that there may be.
_COPIED = ("*.json", "*.jinja", "*.model", "*.txt")  # Of the source folder: configuration and tokenizer.

_ENDS = {
    "ends.embedding": "model.embed_tokens.weight",
    "ends.norm.scale": "model.norm.weight",
    "ends.unembedding": "lm_head.weight",
}
_ATTENTION = {
    "blocks.attention_norm.scale": _LAYER + "input_layernorm.weight",
    "blocks.attention.query": _LAYER + "self_attn.q_proj.weight",
    "blocks.attention.key": _LAYER + "self_attn.k_proj.weight",
    "blocks.attention.value": _LAYER + "self_attn.v_proj.weight",
    "blocks.attention.out": _LAYER + "self_attn.o_proj.weight",
    "blocks.attention.query_norm.scale": _LAYER + "self_attn.q_norm.weight",
    "blocks.attention.key_norm.scale": _LAYER + "self_attn.k_norm.weight",
}
_MLP = {
    "blocks.mlp.gate": _LAYER + "mlp.gate_proj.weight",
    "blocks.mlp.up": _LAYER + "mlp.up_proj.weight",
    "blocks.mlp.down": _LAYER + "mlp.down_proj.weight",
}
_EXPERTS = {
    "blocks.mlp.router": _LAYER + "mlp.gate.weight",
    "blocks.mlp.gate": _LAYER + "mlp.experts.{expert}.gate_proj.weight",
    "blocks.mlp.up": _LAYER + "mlp.experts.{expert}.up_proj.weight",
    "blocks.mlp.down": _LAYER + "mlp.experts.{expert}.down_proj.weight",
}
_QWEN3_NORMS = {
    "blocks.mlp_norm.scale": _LAYER + "post_attention_layernorm.weight",
}
_GEMMA3_NORMS = {
    "blocks.attention_out_norm.scale": _LAYER + "post_attention_layernorm.weight",
    "blocks.mlp_norm.scale": _LAYER + "pre_feedforward_layernorm.weight",
    "blocks.mlp_out_norm.scale": _LAYER + "post_feedforward_layernorm.weight",
}
_NAMES = {
    "qwen3": _ENDS | _ATTENTION | _QWEN3_NORMS,
    "gemma3": _ENDS | _ATTENTION | _GEMMA3_NORMS,
}

# In a multimodal Gemma 3: where the language model's names begin, in two versions, and the parts that are left out.
_TEXT = {"language_model.model.": "model.", "model.language_model.": "model.", "language_model.lm_head.": "lm_head."}
_VISION = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")

_TYPES = {"F32": np.dtype("float32"), "BF16": np.dtype(jnp.bfloat16), "F16": np.dtype("float16")}


class _Stored(NamedTuple):
    """A tensor in a file; nothing of it is read yet."""

    file: pathlib.Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def read(self) -> np.ndarray:
        # Mapped for this tensor alone: a mapping of the whole file would keep in memory all that was read through it.
        return np.memmap(self.file, _TYPES[self.dtype], mode="r", offset=self.offset, shape=self.shape)


class _Source(NamedTuple):
    """Where a weight comes from.

    tensors: by the name of each stored tensor, its index in the weight: (), (layer,) or (layer, expert).
    shape: of one such tensor here. inputs: how many of its axes are contracted with a layer's input.
    """

    tensors: dict[str, tuple[int, ...]]
    shape: tuple[int, ...]
    inputs: int

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Matrices of the layers are stored as [outputs, inputs], embeddings and vectors as they are here."""
        if not self.inputs:
            return self.shape
        return math.prod(self.shape[self.inputs :]), math.prod(self.shape[: self.inputs])

    def here(self, stored: np.ndarray) -> np.ndarray:
        return stored.T.reshape(self.shape) if self.inputs else stored

    def there(self, tensor: jax.Array) -> jax.Array:
        return tensor.reshape(self.stored_shape[::-1]).T if self.inputs else tensor


def load(
    folder: str | pathlib.Path,
    config: ModelConfig,
    shardings: object = None,
    dtype: str | None = None,
) -> transformer.Weights:
    """The weights of the checkpoint in a folder, without adapters.

    Args:
      config: of the folder, by `hf_config.read`; how it computes (dtype, remat, lora) may be changed, and of fewer
      layers the first ones are read.
      shardings: a pytree of shardings like the weights; None takes those of the table on the current mesh, and without
      a mesh the default device. The axis of layers is whole on every device.
      dtype: type of the weights; None keeps the stored one.

    Raises:
      ValueError: tensors that are missing, not known, of another shape or of an unsupported type, by their names.
    """
    folder = pathlib.Path(folder)
    sources = _sources(config)
    found = _find(folder)
    layers = hf_config.read(folder).layers
    left_out = tuple(_LAYER.format(layer=layer) for layer in range(config.layers, layers))
    found = {name: stored for name, stored in found.items() if not name.startswith(left_out)}
    _check(folder, config, sources, found)
    if shardings is None:
        mesh, default = jax.sharding.get_mesh(), jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shapes = _shapes(config)
        shardings = jax.tree.map(lambda _: default, shapes) if mesh.empty else sharding.shardings(shapes, mesh)

    def read(path, shape, laid_out):
        source = sources[sharding.leaf_name(path)]
        types = {_TYPES[found[name].dtype] for name in source.tensors}
        target = np.dtype(dtype) if dtype else functools.reduce(jnp.promote_types, types)
        layers = itertools.groupby(source.tensors.items(), lambda item: item[1][:1])
        pieces = ([found[name] for name, _ in tensors] for _, tensors in layers)
        if () in source.tensors.values():
            return _place(source, next(pieces), shape.shape, laid_out).astype(target)
        piece_sharding = laid_out
        if isinstance(laid_out, jax.sharding.NamedSharding):
            piece_sharding = jax.sharding.NamedSharding(laid_out.mesh, jax.sharding.PartitionSpec(*laid_out.spec[1:]))
        whole = jnp.zeros(shape.shape, target, device=laid_out)
        insert = jax.jit(_insert, donate_argnums=0, out_shardings=laid_out)
        for layer, stored in enumerate(pieces):
            piece = _place(source, stored, shape.shape[1:], piece_sharding)
            whole = jax.block_until_ready(insert(whole, piece, layer))  # Else the pieces of many layers wait in memory.
        return whole

    return jax.tree_util.tree_map_with_path(read, _shapes(config), shardings)


def largest_tensor(folder: str | pathlib.Path) -> int:
    """Bytes of the largest tensor that is stored in a folder."""
    found = _find(pathlib.Path(folder)).values()
    return max(math.prod(stored.shape) * _TYPES[stored.dtype].itemsize for stored in found)


def save(
    folder: str | pathlib.Path, config: ModelConfig, weights: transformer.Weights, original: str | pathlib.Path
) -> None:
    """Writes a checkpoint that `transformers` loads, adapters merged into their matrices.

    Args:
      folder: where to; new or empty. config: of the weights. weights: on devices of this process.
      original: the folder that the model was loaded from; its configuration and tokenizer files are copied. Of a
      multimodal Gemma 3 the language model is written, as a model of its own.
    """
    folder, original = pathlib.Path(folder), pathlib.Path(original)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: a checkpoint is written into a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    if "lora" in weights:
        weights = lora.merge(config.lora, weights)
    leaves = {sharding.leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(weights)}
    shards, index = _shards(config, leaves), {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        index |= dict.fromkeys(shard, file)
        tensors = {name: np.asarray(source.there(leaf[at])) for name, (source, leaf, at) in shard.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        total = sum(leaves[weight].nbytes for weight in _sources(config))
        (folder / _INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2))
    for path in itertools.chain.from_iterable(map(original.glob, _COPIED)):
        if path.name != _INDEX:
            shutil.copy(path, folder)
    settings = hf_config.text_settings(json.loads((original / "config.json").read_text()))
    if config.layers < hf_config.read(original).layers:
        settings = hf_config.first_layers(settings, config.layers)
    if settings["model_type"] == "gemma3_text":
        settings["architectures"] = ["Gemma3ForCausalLM"]
    settings.pop("torch_dtype", None)
    settings["dtype"] = str(leaves["ends.embedding"].dtype)
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")


def _shapes(config: ModelConfig) -> transformer.Weights:
    """Shapes of the weights without adapters."""
    weights = jax.eval_shape(functools.partial(transformer.init, config=config), jax.random.key(0))
    return {name: part for name, part in weights.items() if name != "lora"}


def _sources(config: ModelConfig) -> dict[str, _Source]:
    """By a weight's name, where it comes from."""
    names = _NAMES[config.family] | (_EXPERTS if config.experts else _MLP)
    sources = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(_shapes(config)):
        weight = sharding.leaf_name(path)
        template = names[weight]
        stack = leaf.shape[: ("{layer}" in template) + ("{expert}" in template)]
        places = itertools.product(*map(range, stack))
        tensors = {template.format(**dict(zip(("layer", "expert"), at, strict=False))): at for at in places}
        shape = leaf.shape[len(stack) :]
        matrix = bool(stack) and len(shape) > 1
        sources[weight] = _Source(tensors, shape, 0 if not matrix else 2 if weight == "blocks.attention.out" else 1)
    return sources


def _find(folder: pathlib.Path) -> dict[str, _Stored]:
    """All tensors of the language model in a folder, by the names of a model that is text alone."""
    if (folder / _INDEX).exists():
        files = sorted(set(json.loads((folder / _INDEX).read_text())["weight_map"].values()))
    else:
        files = ["model.safetensors"]
    if missing := [file for file in files if not (folder / file).exists()]:
        raise ValueError(
            f"{folder}: {', '.join(missing)} not found. A checkpoint is safetensors files, here incomplete."
        )
    found = {}
    for path in map(folder.joinpath, files):
        with open(path, "rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(size))
        header.pop("__metadata__", None)
        held, announced = path.stat().st_size, 8 + size + max(entry["data_offsets"][1] for entry in header.values())
        if held < announced:
            raise ValueError(f"{path} holds {held} bytes of {announced}: it was cut off. Copy it again.")
        for name, entry in header.items():
            if not name.startswith(_VISION):
                for prefix, plain in _TEXT.items():
                    name = plain + name.removeprefix(prefix) if name.startswith(prefix) else name
                start = 8 + size + entry["data_offsets"][0]
                found[name] = _Stored(path, entry["dtype"], tuple(entry["shape"]), start)
    return found


def _check(folder: pathlib.Path, config: ModelConfig, sources: dict[str, _Source], found: dict[str, _Stored]) -> None:
    expected = {name: source.stored_shape for source in sources.values() for name in source.tensors}
    unused = {"lm_head.weight"} if config.tied_embedding else set()  # Some tied checkpoints hold it twice.
    both = sorted(expected.keys() & found.keys())
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "not known": sorted(found.keys() - expected.keys() - unused),
        "of another shape": [
            f"{name} {list(found[name].shape)} in place of {list(expected[name])}"
            for name in both
            if found[name].shape != expected[name]
        ],
        "of an unsupported type": [f"{name} {found[name].dtype}" for name in both if found[name].dtype not in _TYPES],
    }
    if any(problems.values()):
        some = lambda names: ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        said = [f"{len(names)} {problem}: {some(names)}" for problem, names in problems.items() if names]
        raise ValueError(
            f"{folder} does not hold the tensors that its model has. {'. '.join(said)}. "
            "Use a checkpoint that fits its config.json, or the config read from it."
        )


def _place(
    source: _Source, stored: list[_Stored], shape: tuple[int, ...], sharding: jax.sharding.Sharding
) -> jax.Array:
    """One tensor, or a layer's experts as one, cut over the devices; each process reads what its devices hold."""
    tensors = [source.here(tensor.read()) for tensor in stored]

    def part(index):
        if shape == source.shape:
            return tensors[0][index]
        return np.stack([tensor[index[1:]] for tensor in tensors[index[0]]])

    shards = [
        # Never an alias of the mapped file, which may be replaced while the weights are in use.
        jax.device_put(part(index), device, may_alias=False)
        for device, index in sharding.addressable_devices_indices_map(shape).items()
    ]
    return jax.block_until_ready(jax.make_array_from_single_device_arrays(shape, sharding, shards))


def _insert(whole: jax.Array, piece: jax.Array, layer: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(whole, piece.astype(whole.dtype), layer, 0)


def _shards(
    config: ModelConfig, leaves: dict[str, jax.Array]
) -> list[dict[str, tuple[_Source, jax.Array, tuple[int, ...]]]]:
    """File by file, the tensors to write by name: what they are, the weight that holds them, and where in it."""
    shards, size = [{}], 0
    for weight, source in _sources(config).items():
        for name, at in source.tensors.items():
            grown = size + math.prod(source.shape) * leaves[weight].dtype.itemsize
            if shards[-1] and grown > _SHARD_BYTES:
                shards, grown = [*shards, {}], grown - size
            shards[-1][name] = (source, leaves[weight], at)
            size = grown
    return shards


def check(folder, model):
    pass


def digest(folder):
    return "x"
