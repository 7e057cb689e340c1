"""Multi-process runs: each process runs the same program on its own devices; process 0 writes the files.

Every process makes the same arrays from the same configuration, and puts on the mesh what its own devices hold.
"""

import os
import sys
import traceback

import jax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np

from negot_jax.models import sharding

_VARIABLES = ADDRESS, PROCESSES, PROCESS = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def start(detect: bool) -> None:
    """Joins the other processes of a run, if there are any. Call it before any other use of JAX.

    Args:
      detect: ask the cluster: a Cloud TPU slice, Slurm and Kubernetes know their processes. The variables
        JAX_COORDINATOR_ADDRESS (host:port of the first), JAX_NUM_PROCESSES and JAX_PROCESS_ID (from 0) take precedence.

    Raises:
      ValueError: only some of the variables are set, or they are no such numbers, or no cluster is known.
    """
    given = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    if missing := [name for name in _VARIABLES if given and name not in given]:
        raise ValueError(f"{', '.join(given)} set, but not {', '.join(missing)}. Set all three, or none of them.")
    if given:
        number, total = given[PROCESS], given[PROCESSES]
        if not (number.isdecimal() and total.isdecimal() and int(number) < int(total)):
            raise ValueError(
                f"{PROCESSES}={total}, {PROCESS}={number}: give the number of processes, and one counted from 0."
            )
        jax.distributed.initialize(given[ADDRESS], int(given[PROCESSES]), int(given[PROCESS]))
    elif detect:
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise ValueError(
                f"--distributed: no processes were found ({error}). Leave it out on a single machine; elsewhere set "
                f"{ADDRESS}, {PROCESSES} and {PROCESS}."
            ) from error


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """A barrier: returns once every process has reached the one of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(flag: bool) -> bool:
    """Whether the flag is set on any process. Waits for all of them and for their devices."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())


def agree_later(flag: bool, after: jax.Array) -> jax.Array:
    """As `agree`, without waiting: a float32 scalar on the devices of the current mesh, above 0 if any flag is set,
    once `after` is computed, so that every process orders its programs alike.
    """
    mesh = sharding.current_mesh()
    cut = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    return _largest(jax.make_array_from_callback((mesh.size,), cut, lambda _: np.full(1, flag, np.float32)), after)


@jax.jit
def _largest(flags: jax.Array, after: jax.Array) -> jax.Array:
    flags, _ = jax.lax.optimization_barrier((flags, after))
    return sharding.replicate(flags.max())


def disconnect() -> None:
    """Disconnects once all processes have called it. Each may then exit with its own code."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def leave(error: BaseException) -> None:
    """Ends a failing process of many at once: an orderly exit would wait for the others, and they for it. They notice
    by themselves, or are ended by what started them. Does nothing to a single process, nor to one that did not fail.
    """
    code = error.code if isinstance(error, SystemExit) else 1
    if not code or not jax.distributed.is_initialized():
        return
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    elif isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
