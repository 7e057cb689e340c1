"""Writes a trained buyer as a Hugging Face checkpoint, which `transformers` and serving engines load.

  python -m experiments.export --workdir=DIR --output=FOLDER [--mesh=data=-1]

For runs that began with a checkpoint (--config.model.checkpoint), whose configuration and tokenizer files are copied.
Adapters are merged into their matrices; weights are written in the type that the checkpoint had.
"""

import pathlib

from absl import flags
from etils import epath
import jax

from experiments import cli, evaluate, setup
from negot_jax.models import hf_checkpoint, hf_config, lora, sharding
from negot_jax.training import storage

if __name__ == "__main__":  # Flags are global: as a module, this one defines none.
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run made by experiments.train.", required=True)
    _MESH = flags.DEFINE_string("mesh", None, cli.MESH_HELP)
    _OUTPUT = flags.DEFINE_string("output", None, "New or empty folder for the checkpoint.", required=True)


def export(run: setup.Run, workdir: epath.Path, run_id: str, output: pathlib.Path) -> int:
    """Writes the latest whole checkpoint's buyer, on the current mesh; returns the iteration that it is of.

    Raises:
      ValueError: the output is not empty.
      CheckpointError: there is no checkpoint, or none that is whole.
    """
    original, model = run.config.model.checkpoint, run.program.model
    _, frozen, state = evaluate.restore(run, workdir, run_id)
    weights = run.program.whole(state.weights, frozen)
    if model.lora.rank:
        weights = lora.merge(model.lora, weights)
    stored = hf_config.read(original).dtype
    weights = {name: jax.tree.map(lambda x: x.astype(stored), weights[name]) for name in ("ends", "blocks")}
    hf_checkpoint.save(output, model, weights, original)
    return int(state.iteration)


def main() -> None:
    output = pathlib.Path(_OUTPUT.value)
    with cli.checking_input():
        workdir = cli.workdir(_WORKDIR.value)
        if storage.is_remote(_OUTPUT.value):
            raise ValueError(
                f"--output={_OUTPUT.value} is in a bucket. Name a new folder of this machine, then "
                "`gcloud storage cp --recursive` copies it there."
            )
        saved, config = evaluate.read_run(workdir, _MESH.value)
        if config.model.checkpoint is None:
            raise ValueError(
                f"--workdir={workdir}: its model is none of the published ones, so there is nothing to write it as. "
                "Export is for runs with --config.model.checkpoint."
            )
        if output.exists() and any(output.iterdir()):
            raise ValueError(f"--output={output} is not empty. Name a new folder.")
        run, run_id = evaluate.prepare(saved, config, workdir)
    with jax.set_mesh(sharding.make(config.mesh)):
        iteration = export(run, workdir, run_id, output)
    print(f"The buyer after {iteration} iterations is in {output}")


if __name__ == "__main__":
    cli.run(main)
