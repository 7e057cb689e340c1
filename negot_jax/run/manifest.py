"""The manifest of a run, `manifest.json`: what was run, and what it takes to run it again.

A run is identified by what it learns from: the fields of `config.identity`, and the digests of its inputs. Each
start adds an entry with what may differ between starts: time, command, versions, devices.
"""

from collections.abc import Mapping
import datetime
import hashlib
from importlib import metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

from etils import epath
import jax

from negot_jax.run.config import Config, flat, free, identity, override
from negot_jax.training import storage

FILE = "manifest.json"  # In the workdir.

_TYPES = {"run_id": str, "config": dict, "inputs": dict, "catalog": dict, "starts": list}
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
RANDOM = ("jax_default_prng_impl", "jax_threefry_partitionable")  # JAX options that decide every draw.


def read(workdir: str | os.PathLike) -> dict[str, Any]:
    """The manifest of a run. Raises FileNotFoundError if there is none, ValueError if it is damaged."""
    path = epath.Path(workdir) / FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict):
            raise ValueError("it holds no JSON object")
        if missing := [name for name, kind in _TYPES.items() if not isinstance(manifest.get(name), kind)]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        override(Config(), manifest["config"])
    except (ValueError, TypeError, IsADirectoryError) as error:
        raise ValueError(
            f"{path} is damaged: {error}. Put a copy back, or delete it and run the same training command as before: "
            "the run resumes from its checkpoints."
        ) from error
    return manifest


def record_start(workdir: os.PathLike, config: Config, inputs: Mapping[str, str], catalog: Mapping[str, Any]) -> None:
    """Writes the manifest, or adds this start to it. Called on one process only.

    inputs: digests by name, see `run_id`. catalog: facts for the reader, such as the sizes of the split.
    """
    path = epath.Path(workdir) / FILE
    saved = read(workdir) if path.exists() else {"run_id": run_id(config, inputs), "starts": []}
    first = jax.devices()[0]
    start = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "git": _git_state(),
        "devices": {"kind": first.device_kind, "count": jax.device_count(), "processes": jax.process_count()},
        "config": free(config),
    }
    manifest = {
        "run_id": saved["run_id"],
        "config": flat(config),
        "inputs": dict(inputs),
        "catalog": dict(catalog),
        "starts": [*saved["starts"], start],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_atomically(path, json.dumps(manifest, indent=2) + "\n")


def run_id(config: Config, inputs: Mapping[str, str]) -> str:
    """A digest of everything that identifies a run; its checkpoints carry it.

    inputs: digests of what lies outside the configuration, by field: the catalog's products, the tokenizer, the
    checkpoints that the models come from; and the options of JAX that decide the random numbers.
    """
    return digest(json.dumps([identity(config), dict(inputs)], sort_keys=True).encode())


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def changed_fields(saved: Mapping[str, Any], config: Config) -> list[str]:
    """A line for each field that identifies the run and differs between its manifest and `config`.

    A field that came after the run was made had its default.
    """
    # By the new configuration's rule: iterations count only while a schedule decays over them.
    old, new = flat(Config()) | saved["config"], identity(config)
    names = new.keys() | {name for name in old if name not in flat(config)}
    return [
        f"config.{name}: saved {old.get(name)!r}, now {new.get(name)!r}"
        for name in sorted(names)
        # Compared as JSON: 1 differs from true, and nan equals itself.
        if json.dumps(old.get(name)) != json.dumps(new.get(name))
    ]


def require_inputs(
    workdir: str | os.PathLike, saved: Mapping[str, Any], inputs: Mapping[str, str], some: bool = False
) -> None:
    """Raises ValueError where an input's content is not what the run was trained on, or one is missing.

    some: whether these are only some of the run's.
    """
    for name, found in inputs.items():
        if (expected := saved["inputs"].get(name)) != found:
            raise ValueError(
                f"{name} is not what the run in {workdir} was trained with: its digest is {found}, the manifest's "
                f"{expected}. {_WAY_OUT.get(name, 'Give the path of the original by --config.' + name)}, or use "
                "another --workdir."
            )
    for name in () if some else saved["inputs"].keys() - inputs.keys():
        raise ValueError(
            f"config.{name} is not set, but the run in {workdir} was trained with one. Give its path, or use another "
            "--workdir."
        )


_WAY_OUT = {
    "catalog": "Name the original data by --config.catalog.data_dir",
    "tokenizer": "Put the original tokenizer back (a deleted tokenizer.model is made again by the training command)",
    **{name.upper(): f"Set {name.upper()} as it was" for name in RANDOM},
}


def _git_state(root: pathlib.Path = _ROOT) -> dict[str, Any]:
    """The commit and whether files differ from it; None for both where `root` is not a checkout of its own."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
        except FileNotFoundError:  # git is not installed.
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie inside some other project's checkout, whose commit says nothing about it.
    top, commit = git("rev-parse", "--show-toplevel"), git("rev-parse", "HEAD")
    if not top or not commit or pathlib.Path(top).resolve() != root:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(git("status", "--porcelain"))}
