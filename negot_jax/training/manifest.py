"""The manifest of a run, `manifest.json`: what is needed to tell what was run, and to run it again.

The configuration, the seed, the catalogue and the tokenizer identify a run: they are written once, and a resumed run
must have the same. Everything that may change from one start to the next (time, command, versions, devices, mesh) is a
list of starts.
"""

from collections.abc import Mapping
import dataclasses
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

from negot_jax.training import storage

FILE = "manifest.json"  # In the workdir.

_RUN = ("config", "seed", "catalog", "tokenizer")  # What identifies a run.
_FREE = ("mesh",)  # Fields of the configuration that may change from one start to the next.
_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def record_start(
    workdir: str | os.PathLike, config: Any, seed: int, catalog: Mapping[str, Any], tokenizer: bytes
) -> dict[str, Any]:
    """Writes `workdir/manifest.json`, or adds this start to the one that is there. Call it on one process only.

    Args:
      workdir: the run's directory; made if it is not there.
      config: the resolved configuration, a dataclass.
      seed: the seed of everything random in the run.
      catalog: JSON facts of the catalogue: its name, version and counts.
      tokenizer: the serialized model, of which the digest is kept.

    Returns:
      The manifest as written.

    Raises:
      ValueError: the directory holds a run with another configuration, seed, catalogue or tokenizer, whose fields are
        listed; or the manifest is damaged.
    """
    path = epath.Path(workdir) / FILE
    settings = dataclasses.asdict(config)
    layout = {name: settings.pop(name) for name in _FREE if name in settings}
    values = (settings, seed, dict(catalog), _digest(tokenizer))
    run = dict(zip(_RUN, json.loads(json.dumps(values)), strict=True))  # as read back: tuples become lists
    starts = []
    if path.exists():
        saved = read(workdir)
        starts = saved.pop("starts")
        if differences := _differences(saved, run):
            raise ValueError(
                f"{path} belongs to another run, which differs in {'; '.join(differences)}. Resume with the saved "
                "values, or start anew with another --workdir."
            )
    manifest = {**run, "starts": [*starts, _start() | layout]}
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_atomically(path, json.dumps(manifest, indent=2) + "\n")
    return manifest


def read(workdir: str | os.PathLike) -> dict[str, Any]:
    """Returns the manifest of a run.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is damaged.
    """
    path = epath.Path(workdir) / FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if lacking := [name for name in (*_RUN, "starts") if name not in manifest]:
            raise ValueError(f"it lacks {', '.join(lacking)}")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged: {error}. Put a copy back; or delete it and give the same training command as before, "
            "which goes on from the checkpoints if the configuration is theirs."
        ) from error
    return manifest


def run_id(manifest: Mapping[str, Any]) -> str:
    """A digest of all that identifies a run, by which its checkpoints know it."""
    return _digest(json.dumps([manifest[name] for name in _RUN], sort_keys=True).encode())


def require_tokenizer(manifest: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Raises ValueError unless a tokenizer's file is the run's own, and FileNotFoundError where there is none."""
    if (digest := _digest(epath.Path(path).read_bytes())) != manifest["tokenizer"]:
        raise ValueError(
            f"{path} is damaged, or of another run: its digest is {digest}, the manifest's {manifest['tokenizer']}. "
            "Put a copy back; or delete it, and the training command makes it anew."
        )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _start() -> dict[str, Any]:
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
        "git": _git_state(),
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
    }


def _git_state(root: pathlib.Path = _ROOT) -> dict[str, Any]:
    """Returns the commit and whether files differ from it; None for both where `root` is no checkout of its own."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True)
        except FileNotFoundError:  # no git on this machine
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie inside some other project's checkout, whose commit says nothing about it.
    top, commit = git("rev-parse", "--show-toplevel"), git("rev-parse", "HEAD")
    if not top or not commit or pathlib.Path(top).resolve() != root:
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(git("status", "--porcelain"))}


def _differences(saved: Any, new: Any, path: str = "") -> list[str]:
    """Returns a line for each leaf in which two JSON values differ, by its dotted path."""
    if isinstance(saved, dict) and isinstance(new, dict):
        keys = sorted({*saved, *new})
        prefix = path and path + "."
        return [line for key in keys for line in _differences(saved.get(key), new.get(key), prefix + key)]
    # Compared as JSON, so that 1 differs from true and nan equals itself.
    return [] if json.dumps(saved) == json.dumps(new) else [f"{path}: saved {saved!r}, now {new!r}"]
