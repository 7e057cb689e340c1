"""How much host memory reading a Hugging Face checkpoint takes, beyond the arrays that it becomes.

  python -m experiments.bench.load_checkpoint --checkpoint=FOLDER

Prints the arrays' size, the largest tensor's, the peak of the process, and what of it is neither array nor what the
process held before. On a CPU the arrays are in host memory themselves.
"""

import json
import resource
import time

from absl import flags
import jax

from experiments import cli
from negot_jax.models import hf_checkpoint, hf_config

if __name__ == "__main__":
    _CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder of the checkpoint.", required=True)

_GIB = 2**30


def _peak() -> int:
    """Bytes of memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    folder = _CHECKPOINT.value
    with cli.checking_input():
        config = hf_config.read(folder)
    jax.devices()
    before, start = _peak(), time.perf_counter()
    weights = jax.block_until_ready(hf_checkpoint.load(folder, config))
    seconds = time.perf_counter() - start
    peak = _peak()
    leaves = jax.tree.leaves(weights)
    arrays = sum(leaf.nbytes for leaf in leaves)
    figures = {
        "arrays_gib": arrays / _GIB,
        "largest_tensor_gib": hf_checkpoint.largest_tensor(folder) / _GIB,
        "before_gib": before / _GIB,
        "peak_gib": peak / _GIB,
        "beyond_gib": (peak - before - arrays) / _GIB,
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()} | {"seconds": round(seconds, 1)}))


if __name__ == "__main__":
    cli.run(main)
