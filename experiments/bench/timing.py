"""Timing, and what a figure should be read with."""

from collections.abc import Callable, Collection, Sequence
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time

import jax

from experiments import cli
from negot_jax import progress


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds from the call until its arrays are computed."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def spread(figure: dict[str, float], digits: int = 2) -> str:
    """A `summary` as text: median (min-max)."""
    return f"{figure['median']:.{digits}f} ({figure['min']:.{digits}f}-{figure['max']:.{digits}f})"


def show(figures: dict[str, object], as_json: bool) -> None:
    """Prints figures as one line of JSON, or a line each."""
    if as_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:18} {spread(value) if isinstance(value, dict) and 'median' in value else value}")


def machine() -> dict[str, object]:
    """Versions, hardware and load."""
    return {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def peak_gib() -> float:
    """The most host memory that this process has held."""
    # In KiB on Linux, in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def device_peak_gib() -> float | None:
    """The most memory of a device that this process has held; None where that is the host's."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats["peak_bytes_in_use"] / 2**30 if "peak_bytes_in_use" in stats else None


def run_json(*command: str, devices: int | None = None, wanted: Collection[str] = ()) -> dict:
    """The JSON in the last line that a Python command prints, which must have the `wanted` keys.

    devices: virtual ones of the CPU; by default as many as the command takes. Raises InputError if the command fails,
    with the end of its stderr, or prints something else.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if devices is not None:
        flags += f" --xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags}
    with progress.Bar(shlex.join(part for part in command if part != "-m")):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env)
    if done.returncode:
        raise cli.InputError(f"{shlex.join(command)} failed with code {done.returncode}: {done.stderr[-1000:]}")
    *_, last = done.stdout.strip().splitlines() or [""]
    try:
        found = json.loads(last)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.keys() >= set(wanted):
        keys = f" with {', '.join(wanted)}" if wanted else ""
        raise cli.InputError(f"{shlex.join(command)}: its last line is not a JSON object{keys}: {last[:200]!r}")
    return found
