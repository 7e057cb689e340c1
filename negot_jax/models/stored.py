"""Tensors as safetensors files hold them, by their headers alone, and the digest of a checkpoint's content."""

from collections.abc import Callable
import hashlib
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from negot_jax import hub

INDEX = "model.safetensors.index.json"
TYPES = {"F32": np.dtype("float32"), "BF16": np.dtype(jnp.bfloat16), "F16": np.dtype("float16")}

_BYTES = {**{f"F8_{kind}": 1 for kind in ("E4M3", "E5M2", "E8M0")}, "BOOL": 1, "BF16": 2, "F16": 2, "F32": 4, "F64": 8}
_BYTES |= {f"{sign}{bits}": bits // 8 for sign in "IU" for bits in (8, 16, 32, 64)}
_LARGEST_HEADER = 100 * 2**20  # The format's own limit.
_BUFFERS = ".rotary_emb.inv_freq"  # Old Llama checkpoints hold these, which follow from the configuration.
_IDENTITY = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")
_IDENTITY += ("chat_template.jinja", "chat_template.json")
_PAGE = 4096
_WHOLE_BYTES = 64 * 2**20  # Files up to this size are digested whole.
_STRIDE = 16 * 2**20


class Stored(NamedTuple):
    """A tensor in a file; nothing of it is read yet."""

    file: pathlib.Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * _BYTES[self.dtype]

    def read(self) -> np.ndarray:
        # Mapped for this tensor alone: a mapping of the whole file would keep in memory all that was read through it.
        return np.memmap(self.file, TYPES[self.dtype], mode="r", offset=self.offset, shape=self.shape)


def find(folder: pathlib.Path, rename: Callable[[str], str | None] = lambda name: name) -> dict[str, Stored]:
    """All tensors of a checkpoint, by the names that `rename` gives them; those that it gives None are left out.

    Raises:
      ValueError: files that are missing, cut off, or no safetensors.
    """
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
    """What a checkpoint is, wherever it lies: 16 hex digits.

    Of the configuration, tokenizer and chat template all bytes count; of weights the headers and, in large files, a
    page in the middle of every tensor and one every 16 MiB, so that 60 GB take seconds.
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
    if (index := folder / INDEX).exists():
        weight_map = hub.read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map or not all(map(_is_name, weight_map.values())):
            raise ValueError(f"{index} has no weight_map from tensors to files of its folder. Download it again.")
        names = sorted(set(weight_map.values()))
    if missing := [name for name in names if not (folder / name).is_file()]:
        others = sorted(path.name for pattern in ("*.bin", "*.pth", "*.gguf") for path in folder.glob(pattern))
        parts = sorted(path.name for path in folder.glob("*.safetensors"))
        if others:
            way_out = f"Of {others[0]} nothing is read: convert it to safetensors, or download the model in that form."
        elif parts and not index.exists():
            way_out = f"There is {parts[0]}, but no {INDEX} to say what else there should be: download it."
        else:
            way_out = "A checkpoint is safetensors files, here incomplete: download it again."
        raise ValueError(f"{folder}: {', '.join(missing[:5])} not found. {way_out}")
    return [folder / name for name in names]


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and pathlib.PurePath(name).name == name


def _tensors(path: pathlib.Path) -> dict[str, Stored]:
    hub.require_content(path)
    broken = f"{path} is no safetensors file, or was damaged. Download it again."
    held = path.stat().st_size
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= _LARGEST_HEADER:
            raise ValueError(broken)
        if held < 8 + size:
            raise ValueError(f"{path} holds {held} bytes, less than its header: it was cut off. Download it again.")
        try:
            header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            entries = {name: (e["dtype"], tuple(e["shape"]), *e["data_offsets"]) for name, e in header.items()}
            tensors = {
                name: Stored(path, dtype, shape, 8 + size + start) for name, (dtype, shape, start, _) in entries.items()
            }
            whole = all(
                tensor.dtype not in _BYTES or (start >= 0 and end - start == tensor.nbytes)
                for tensor, (*_, start, end) in zip(tensors.values(), entries.values(), strict=True)
            )
            announced = 8 + size + max((end for *_, end in entries.values()), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(broken) from error
    if not whole:
        raise ValueError(broken)
    if held < announced:
        raise ValueError(f"{path} holds {held} bytes of {announced}: it was cut off. Download it again.")
    return tensors
