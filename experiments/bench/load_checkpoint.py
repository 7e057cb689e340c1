"""How much host memory reading a Hugging Face checkpoint takes, beyond the arrays that it becomes.

  python -m experiments.bench.load_checkpoint --checkpoint=FOLDER

Prints the arrays' size, the largest tensor's, the peak of the process, and what of it is neither array nor what the
process held before. On a CPU the arrays are in host memory themselves.
"""

import json
import os
import pathlib
import time

from absl import flags
import jax

from experiments import cli
from experiments.bench import timing
from negot_jax.models import hf_checkpoint, hf_config, stored


def main() -> None:
    folder = os.path.expanduser(_CHECKPOINT.value)
    with cli.checking_input():
        config = hf_config.read(folder)
        hf_checkpoint.check(folder, config)
    jax.devices()
    before, start = timing.peak_gib(), time.perf_counter()
    weights = jax.block_until_ready(hf_checkpoint.load(folder, config))
    seconds, peak = time.perf_counter() - start, timing.peak_gib()
    tensors = stored.find(pathlib.Path(folder), hf_config.family(folder).rename)
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(weights)) / 2**30
    figures = {
        "arrays_gib": arrays,
        "largest_tensor_gib": max(tensor.nbytes for tensor in tensors.values()) / 2**30,
        "before_gib": before,
        "peak_gib": peak,
        "beyond_gib": peak - before - (arrays if jax.default_backend() == "cpu" else 0.0),
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()} | {"seconds": round(seconds, 1)}))


if __name__ == "__main__":
    _CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder of the checkpoint.", required=True)
    cli.run(main)
