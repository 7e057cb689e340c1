"""Tensors in safetensors files, located by their headers alone, and the digest of a checkpoint's content."""

from collections.abc import Callable
import hashlib
import json
import os
import pathlib
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors

from negot_jax import hub

INDEX = "model.safetensors.index.json"
TYPES = {"F32": np.dtype("float32"), "BF16": np.dtype(jnp.bfloat16), "F16": np.dtype("float16")}

_BUFFERS = ".rotary_emb.inv_freq"  # Old Llama checkpoints hold these, which follow from the configuration.
_IDENTITY = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")
_IDENTITY += ("chat_template.jinja", "chat_template.json")
_PAGE = 4096
_WHOLE_BYTES = 64 * 2**20  # Files up to this size are digested whole.
_STRIDE = 16 * 2**20


class Stored(NamedTuple):
    """A tensor in a file, not read yet. offset, nbytes: where its data is."""

    file: pathlib.Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    def read(self) -> np.ndarray:
        # One mapping per tensor: a mapping of the whole file would keep everything read through it in memory.
        return np.memmap(self.file, TYPES[self.dtype], mode="r", offset=self.offset, shape=self.shape)


def find(folder: pathlib.Path, rename: Callable[[str], str | None] = lambda name: name) -> dict[str, Stored]:
    """A checkpoint's tensors by the names that `rename` gives them, not None. Raises ValueError for a damaged one."""
    found = {}
    for path in _files(folder):
        for name, tensor in _tensors(path).items():
            name = rename(name)
            if name is not None and not name.endswith(_BUFFERS):
                found[name] = tensor
    if not found:
        raise ValueError(f"{folder} holds no tensors. Download its *.safetensors again.")
    return found


def digest(folder: str | pathlib.Path) -> str:
    """Returns 16 hex digits that identify a checkpoint's content, wherever it is stored.

    They cover every byte of the configuration, tokenizer and chat template; of the weights, they cover the headers and,
    in large files, a page in the middle of every tensor and one every 16 MiB, so that 60 GB take seconds.
    """
    folder = pathlib.Path(folder)
    whole = hashlib.sha256()
    for name in _IDENTITY:
        if (path := folder / name).exists():
            whole.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    for path in _files(folder):
        size, tensors = path.stat().st_size, _tensors(path).values()
        whole.update(f"{path.name}\0{size}\0".encode())
        with open(path, "rb") as file:
            if size <= _WHOLE_BYTES:
                whole.update(file.read())
                continue
            whole.update(file.read(min(tensor.offset for tensor in tensors)))
            middles = {tensor.offset + tensor.nbytes // 2 for tensor in tensors}
            for start in sorted(middles | set(range(0, size, _STRIDE))):
                whole.update(os.pread(file.fileno(), _PAGE, start))
    return whole.hexdigest()[:16]


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    hub.require_folder(folder)
    names = ["model.safetensors"]
    index = folder / INDEX
    if index.exists() and not (folder / names[0]).is_file():  # Which an older index may lie beside.
        weight_map = hub.read_json(index).get("weight_map")
        here = lambda name: isinstance(name, str) and pathlib.Path(name).name == name and name.endswith(".safetensors")
        if not isinstance(weight_map, dict) or not weight_map or not all(map(here, weight_map.values())):
            raise ValueError(f"{index} has no weight_map from tensors to files of its folder. Download it again.")
        names = sorted(set(weight_map.values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        others = sorted(path.name for pattern in ("*.bin", "*.pth", "*.gguf") for path in folder.glob(pattern))
        parts = sorted(path.name for path in folder.glob("*.safetensors"))
        if others:
            way_out = f"{others[0]} cannot be read: convert it to safetensors, or download the model in that form."
        elif parts and not index.exists():
            way_out = f"There is {parts[0]}, but no {INDEX} to say what else there should be: download it."
        else:
            way_out = "A checkpoint is safetensors files, here incomplete: download it again."
        raise ValueError(f"{folder}: {', '.join(missing[:5])} not found. {way_out}")
    return [folder / name for name in names]


def _tensors(path: pathlib.Path) -> dict[str, Stored]:
    hub.require_content(path)
    try:
        with safetensors.safe_open(path, "np"):  # Checks the header, and that the file holds all that it announces.
            pass
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} was cut off or damaged, or is no safetensors file: {error}. Download it again."
        ) from error
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        tensors[name] = Stored(path, entry["dtype"], tuple(entry["shape"]), 8 + size + start, end - start)
    return tensors
