"""Reads checkpoints of the Hugging Face Hub into a model's weights, and writes them back.

Tensors are copied one at a time from the files into the arrays that stack the layers, which may be sharded over a mesh.
Besides these arrays the host holds one tensor, or the experts of one layer.
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
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
import numpy as np
import safetensors
from safetensors.numpy import save_file

from negot_jax import cache
from negot_jax.models import hf_config, lora, sharding, stored, transformer
from negot_jax.models.families.family import Family
from negot_jax.models.presets import ModelConfig
from negot_jax.models.stored import Stored

_SHARD_BYTES = 2**31
_NAMED = 50  # Tensors of each kind in an error, of the thousands that there may be.
_COPIED = ("*.json", "*.jinja", "*.model", "*.txt")  # Of the source folder: configuration and tokenizer.


class _Source(NamedTuple):
    """Where a weight comes from.

    tensors: by the name of each stored tensor, its index in the weight: (), (layer,) or (layer, expert).
    shape: of one such tensor in this project. inputs: how many of its axes are contracted with a layer's input; None
    for an embedding, whose layout is the same in both.
    """

    tensors: dict[str, tuple[int, ...]]
    shape: tuple[int, ...]
    inputs: int | None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Matrices of the layers are stored as [outputs, inputs], and their vectors flat."""
        if self.inputs is None:
            return self.shape
        outputs = math.prod(self.shape[self.inputs :])
        return (outputs, math.prod(self.shape[: self.inputs])) if self.inputs else (outputs,)

    def here(self, tensor: np.ndarray) -> np.ndarray:
        return tensor if self.inputs is None else tensor.T.reshape(self.shape)

    def there(self, tensor: jax.Array) -> jax.Array:
        return tensor if self.inputs is None else tensor.reshape(self.stored_shape[::-1]).T


def check(folder: str | pathlib.Path, config: ModelConfig) -> tuple[dict[str, _Source], dict[str, Stored]]:
    """The source of each weight, and the stored tensors. Reads headers only, and a head that is tied all the same.

    Raises ValueError for missing or damaged files, and names tensors that are missing, unknown, or of another shape or
    type.
    """
    folder = pathlib.Path(folder)
    family = hf_config.family(folder)
    sources = _sources(config, family)
    found = stored.find(folder, family.rename)
    left_out = tuple(f"model.layers.{layer}." for layer in range(config.layers, hf_config.read(folder).layers))
    found = {name: tensor for name, tensor in found.items() if not name.startswith(left_out)}
    expected = {name: source.stored_shape for source in sources.values() for name in source.tensors}
    unused = {"lm_head.weight"} if config.tied_embedding else set()  # Some tied checkpoints hold it twice.
    held = {name: found[name] for name in sorted(expected.keys() & found.keys())}
    shapes = {name: f"{list(held[name].shape)} in place of {list(expected[name])}" for name in held}
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "not known": sorted(found.keys() - expected.keys() - unused),
        "of another shape": [f"{name} {shapes[name]}" for name in held if held[name].shape != expected[name]],
        "of an unsupported type": [f"{name} {x.dtype}" for name, x in held.items() if x.dtype not in stored.TYPES],
    }
    if any(problems.values()):
        some = lambda names: ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        said = [f"{len(names)} {problem}: {some(names)}" for problem, names in problems.items() if names]
        raise ValueError(
            f"{folder} does not hold the tensors that its model has. {'. '.join(said)}. "
            "Use a checkpoint that fits its config.json, or the config read from it."
        )
    if config.tied_embedding and "lm_head.weight" in found:
        head, embedding = (found[name].read() for name in ("lm_head.weight", "model.embed_tokens.weight"))
        if head.dtype != embedding.dtype or not np.array_equal(head, embedding):
            raise ValueError(
                f"{folder}: config.json ties lm_head.weight to model.embed_tokens.weight, but they differ. Set "
                "tie_word_embeddings to false, or leave lm_head.weight out."
            )
    return sources, found


def load(folder: str | pathlib.Path, config: ModelConfig, dtype: str | None = None) -> transformer.Weights:
    """The weights of the checkpoint in a folder, without adapters, sharded over the current mesh if there is one.

    config: the folder's, by `hf_config.read`; dtype, remat and lora may be changed, and with fewer layers only the
    first ones are read. dtype: of the weights; None keeps the stored one. Raises as `check` does.
    """
    sources, found = check(folder, config)
    mesh, shapes, default = sharding.current_mesh(), _shapes(config), SingleDeviceSharding(jax.local_devices()[0])
    shardings = jax.tree.map(lambda _: default, shapes) if mesh.empty else sharding.shardings(shapes, mesh)

    def read(path, shape, laid_out):
        source = sources[sharding.leaf_name(path)]
        types = {stored.TYPES[found[name].dtype] for name in source.tensors}
        target = np.dtype(dtype) if dtype else functools.reduce(jnp.promote_types, types)
        layers = itertools.groupby(source.tensors.items(), lambda item: item[1][:1])
        pieces = ([found[name] for name, _ in tensors] for _, tensors in layers)
        if () in source.tensors.values():
            return _place(source, next(pieces), shape.shape, laid_out).astype(target)
        of_piece = laid_out
        if isinstance(laid_out, NamedSharding):
            of_piece = NamedSharding(laid_out.mesh, PartitionSpec(*laid_out.spec[1:]))
        whole = jnp.zeros(shape.shape, target, device=laid_out)
        place = lambda whole, piece, i: jax.lax.dynamic_update_index_in_dim(whole, piece.astype(whole.dtype), i, 0)
        insert = jax.jit(place, donate_argnums=0, out_shardings=laid_out)
        for layer, tensors in enumerate(pieces):
            piece = _place(source, tensors, shape.shape[1:], of_piece)
            whole = jax.block_until_ready(insert(whole, piece, layer))  # Else the pieces of many layers wait in memory.
        return whole

    return jax.tree_util.tree_map_with_path(read, shapes, shardings)


def save(
    folder: str | pathlib.Path, config: ModelConfig, weights: transformer.Weights, original: str | pathlib.Path
) -> None:
    """Writes a checkpoint that `transformers` loads, with adapters merged into their matrices.

    It is written beside the folder, new or empty, and renamed at the end, so a folder of that name is always a whole
    checkpoint. weights: on devices of this process. original: the folder that the model was loaded from; its
    configuration and tokenizer files are copied. Of a multimodal one the language model alone is written, as a text
    model.

    Raises ValueError if the folder is not empty, and OSError if it cannot be written, as when the disk is full.
    """
    folder, original = pathlib.Path(folder), pathlib.Path(original)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: a checkpoint is written into a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with cache.replacing(folder) as part:
            part.mkdir()
            _write(part, config, weights, original)
            for path in part.iterdir():
                path.chmod(part.stat().st_mode & 0o666)  # By the user's umask, whatever the modes in `original`.
    except safetensors.SafetensorError as error:
        raise OSError(f"{folder} cannot be written: {error}. Is the disk full?") from error


def _write(folder: pathlib.Path, config: ModelConfig, weights: transformer.Weights, original: pathlib.Path) -> None:
    if "lora" in weights:
        weights = lora.merge(config.lora, weights)
    leaves = {sharding.leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(weights)}
    sources = _sources(config, hf_config.family(original))
    write = lambda name, content: (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    shards, index = _shards(sources, leaves), {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
        index |= dict.fromkeys(shard, file)
        tensors = {name: np.ascontiguousarray(source.there(leaf[at])) for name, (source, leaf, at) in shard.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        total = sum(leaves[weight].nbytes for weight in sources)
        write(stored.INDEX, {"metadata": {"total_size": total}, "weight_map": index})
    for path in itertools.chain.from_iterable(map(original.glob, _COPIED)):
        if path.name != stored.INDEX:
            shutil.copyfile(path, folder / path.name)
    write("config.json", hf_config.text_settings(original, config.layers, str(leaves["ends.embedding"].dtype)))


def _shapes(config: ModelConfig) -> transformer.Weights:
    """Shapes of the weights without adapters."""
    weights = jax.eval_shape(functools.partial(transformer.init, config=config), jax.random.key(0))
    return {name: part for name, part in weights.items() if name != "lora"}


def _sources(config: ModelConfig, family: Family) -> dict[str, _Source]:
    """Returns the source of each weight, by its name."""
    sources = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(_shapes(config)):
        weight = sharding.leaf_name(path)
        template = family.tensors[weight]
        stack = leaf.shape[: ("{layer}" in template) + ("{expert}" in template)]
        layers = config.layers_with(weight.split(".")[1])
        places = itertools.product(*map(range, stack))
        tensors = {template.format(layer=at and layers[at[0]], expert=at and at[-1]): at for at in places}
        shape = leaf.shape[len(stack) :]
        inputs = 2 if weight == "blocks.attention.out" else int(len(shape) > 1 and not weight.endswith("_bias"))
        sources[weight] = _Source(tensors, shape, inputs if stack else None)
    return sources


def _place(source: _Source, pieces: list[Stored], shape: tuple[int, ...], laid_out: Sharding) -> jax.Array:
    """Shards one tensor, or a layer's stacked experts, over devices; each process reads what its devices hold."""
    tensors = [source.here(tensor.read()) for tensor in pieces]

    def part(index):  # A copy: an alias of the mapped file would follow it when it is replaced.
        if shape == source.shape:
            return np.array(tensors[0][index], order="C")
        return np.stack([tensor[index[1:]] for tensor in tensors[index[0]]])

    return jax.block_until_ready(jax.make_array_from_callback(shape, laid_out, part))


def _shards(
    sources: dict[str, _Source], leaves: dict[str, jax.Array]
) -> list[dict[str, tuple[_Source, jax.Array, tuple[int, ...]]]]:
    """Returns, for each file, the tensors to write by name: their source, the weight that holds them, and the index."""
    shards, size = [{}], 0
    for weight, source in sources.items():
        for name, at in source.tensors.items():
            grown = size + math.prod(source.shape) * leaves[weight].dtype.itemsize
            if shards[-1] and grown > _SHARD_BYTES:
                shards, grown = [*shards, {}], grown - size
            shards[-1][name] = (source, leaves[weight], at)
            size = grown
    return shards
