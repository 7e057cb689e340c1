"""Writes a trained buyer or seller as a Hugging Face checkpoint, which `transformers` and serving engines load.

  python -m experiments.export --workdir=DIR --output=FOLDER [--role=seller] [--config.model.checkpoint=MOVED]

For runs that began with a checkpoint (--config.model.checkpoint), whose configuration and tokenizer files are copied.
Adapters are merged into their matrices; weights are written in the type that the checkpoint had.
"""

from absl import flags

from experiments import cli
from negot_jax import run


def main() -> None:
    with cli.checking_input():
        export = run.open(_WORKDIR.value, _overrides()).prepare_export(_OUTPUT.value, _ROLE.value)
    print(f"The model after {export()} iterations is in {_OUTPUT.value}")


if __name__ == "__main__":
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run made by experiments.train.", required=True)
    _overrides = cli.define_overrides(run.Config, "The mesh, or where the checkpoint is now: --config.x.y=v.")
    _OUTPUT = flags.DEFINE_string("output", None, "New or empty folder for the checkpoint.", required=True)
    _ROLE = flags.DEFINE_enum(
        "role", None, ["buyer", "seller"], "The side to export; by default the one that has learned, of two the buyer."
    )
    cli.run(main)
