"""Settings and fixtures for all tests."""

import os
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # Before anything imports jax.
# Tests compile much and run little: unoptimised code halves the time that compiling takes.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

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
