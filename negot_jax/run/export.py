"""A trained buyer or seller as a Hugging Face checkpoint, which `transformers` and serving engines load."""

import pathlib
from typing import TYPE_CHECKING

import jax

from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import hf_checkpoint, hf_config
from negot_jax.run import weights
from negot_jax.run.folder import local_folder
from negot_jax.training import storage

if TYPE_CHECKING:
    from negot_jax.run.run import Run


def require_learned(run: "Run", role: str | None) -> int:
    """The side to export, by default the one that has learned; of two, the buyer. Raises ValueError if it has not."""
    own = run.config.learner.role
    learned = ("buyer", "seller") if own == "both" else (own,)
    if role not in (None, *learned):
        told = " and the ".join(learned)
        raise ValueError(f"--role={role}: {run.workdir} has trained the {told} alone. Leave --role out.")
    return BUYER if (role or learned[0]) == "buyer" else SELLER


def require_output(run: "Run", output: str) -> pathlib.Path:
    """The folder to export to.

    Raises ValueError if it is in a bucket or not empty, or the model did not begin as a published checkpoint.
    """
    if storage.is_remote(output):
        raise ValueError(
            f"--output={output} is in a bucket. Name a local folder, then `gcloud storage cp --recursive` copies it."
        )
    if run.config.model.checkpoint is None:
        raise ValueError(
            f"--workdir={run.workdir}: its model did not begin as a published checkpoint, so there is no format to "
            "write it in. Export is for runs with --config.model.checkpoint."
        )
    folder = local_folder(output, "--output")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--output={output} is not an empty folder. Name a new folder.")
    return folder


def export(run: "Run", folder: pathlib.Path, role: int) -> int:
    """Writes a side of the latest whole checkpoint to a folder; returns the iteration that it is of.

    Adapters are merged into their matrices. Weights are written in the original checkpoint's type, and its
    configuration and tokenizer files are copied. Raises CheckpointError if no checkpoint is whole.
    """
    parts = run.parts
    original, program = parts.config.model.checkpoint, parts.programs[role]
    with jax.set_mesh(parts.mesh):
        saved = weights.restore(parts, run.workdir, run.run_id)
        whole = weights.merged(program, saved.trained(role), saved.frozen)
        stored = hf_config.read(original).dtype
        hf_checkpoint.save(folder, program.model, jax.tree.map(lambda x: x.astype(stored), whole), original)
    return saved.latest
