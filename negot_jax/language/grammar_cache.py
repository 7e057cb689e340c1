"""The grammar's tables on disk: for a published vocabulary they take seconds to build, and no time to read."""

from collections.abc import Sequence
import hashlib
import os
import pathlib
import tempfile

import jax.numpy as jnp
import numpy as np

from negot_jax.language import automaton, grammar

_VOCABULARY = ("class_V", "code_multiplier_V", "code_addend_V")


def load(token_bytes: Sequence[bytes], folder: str | pathlib.Path) -> grammar.Grammar:
    """`grammar.build(token_bytes)`, from a file in the folder if it was built there before.

    The file's name is a digest of the vocabulary and of the automaton, so another of either is another file.
    """
    path = pathlib.Path(folder) / f"grammar_{_digest(token_bytes)}.npz"
    if not path.exists():
        _write(path, grammar.build(token_bytes))
    with np.load(path) as arrays:
        return grammar.Grammar(
            steps_SxK=grammar.Steps(**{name: jnp.asarray(arrays[name]) for name in automaton.STEP.names}),
            **{name: jnp.asarray(arrays[name]) for name in _VOCABULARY},
        )


def _digest(token_bytes: Sequence[bytes]) -> str:
    digest = hashlib.sha256(automaton.TABLE.tobytes())
    digest.update(np.asarray(automaton.hash_step(b"a")).tobytes())
    digest.update(np.array([len(text) for text in token_bytes], np.int64).tobytes())
    digest.update(b"".join(token_bytes))
    return digest.hexdigest()[:32]


def _write(path: pathlib.Path, tables: grammar.Grammar) -> None:
    arrays = {name: getattr(tables.steps_SxK, name) for name in automaton.STEP.names}
    arrays |= {name: getattr(tables, name) for name in _VOCABULARY}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        np.savez(file, **arrays)
    os.replace(file.name, path)  # At once, so that a reader never sees half a file.
