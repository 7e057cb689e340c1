"""Settings and fixtures for all tests."""

import os
from pathlib import Path
import tempfile

import hypothesis
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # Before anything imports jax.
# Tests compile much and run little, and code that is less optimized compiles faster. One device, however many cores.
_QUICK = (
    "backend_optimization_level=0",
    "llvm_disable_expensive_passes=true",
    "cpu_use_fusion_emitters=false",
    "cpu_parallel_codegen_split_count=1",
    "force_host_platform_device_count=1",
)
os.environ.setdefault("XLA_FLAGS", " ".join(f"--xla_{flag}" for flag in _QUICK))

# What one test, worker or command has compiled, the others read.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _COMPILED = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# A property's first example may compile a program, which no deadline should count.
hypothesis.settings.register_profile("negot_jax", deadline=None)
hypothesis.settings.load_profile("negot_jax")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """What a module compiled is of no use to the next, and hundreds of programs exhaust a process's memory maps."""
    yield
    import jax

    jax.clear_caches()


_REAL_DATA = Path(__file__).parents[2] / "shared/data/AmazonHistoryPrice"


@pytest.fixture(scope="session")
def amazon_data_dir() -> Path:
    """The folder of AmazonHistoryPrice's JSON files; tests that need it are skipped where there is none."""
    folder = Path(os.environ.get("NEGOT_DATA_DIR", _REAL_DATA))
    if not folder.is_dir():
        pytest.skip(f"AmazonHistoryPrice is not at {folder}; name its folder by NEGOT_DATA_DIR")
    return folder
