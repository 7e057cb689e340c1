"""A trained buyer or seller as a Hugging Face checkpoint, which `transformers` and serving engines load."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax

from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import hf_checkpoint, hf_config
from negot_jax.run import weights
from negot_jax.run.folder import local_folder
from negot_jax.training import storage

if TYPE_CHECKING:
    from negot_jax.run.run import Run


def prepare(run: "Run", output: str, role: str | None) -> Callable[[], int]:
    """Checks the export of a side; returns what writes its latest whole checkpoint, and returns the iteration of that.

    Adapters are merged into their matrices. Weights are written in the original checkpoint's type, and its
    configuration and tokenizer files are copied.

    Raises ValueError if the side has not learned, its model did not begin as a published checkpoint, or the output is
    in a bucket or not empty; what is returned raises CheckpointError if no checkpoint is whole.
    """
    own = run.config.learner.role
    learned = ("buyer", "seller") if own == "both" else (own,)
    if role not in (None, *learned):
        told = " and the ".join(learned)
        raise ValueError(f"--role={role}: {run.workdir} has trained the {told} alone. Leave --role out.")
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
    parts, side = run.parts, BUYER if (role or learned[0]) == "buyer" else SELLER

    def export() -> int:
        program, original = parts.programs[side], parts.config.model.checkpoint
        with jax.set_mesh(parts.mesh):
            saved = weights.restore(parts, run.workdir, run.run_id)
            whole = weights.merged(program, saved.trained(side), saved.frozen)
            stored = hf_config.read(original).dtype
            hf_checkpoint.save(folder, program.model, jax.tree.map(lambda x: x.astype(stored), whole), original)
        return saved.latest

    return export
