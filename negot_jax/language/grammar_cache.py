"""The grammar's tables on disk. For a published vocabulary, building them takes seconds and reading them no time."""

from collections.abc import Sequence
import contextlib
import hashlib
import pathlib

import jax.numpy as jnp
import numpy as np

from negot_jax import cache
from negot_jax.language import acts, automaton, grammar, phrases

_VOCABULARY = ("class_V", "code_multiplier_V", "code_addend_V")


def load(token_bytes: Sequence[bytes], folder: pathlib.Path) -> grammar.Grammar:
    """Returns `grammar.build(token_bytes)`, read from `folder` if an earlier call has stored it there.

    The file is named by a digest of the vocabulary and the automata. A damaged file is rebuilt; if the folder cannot be
    written, nothing is stored.
    """
    path = folder / f"grammar_{_digest(token_bytes)}.npz"
    try:
        return _read(path)
    except Exception:  # Absent, or damaged; NumPy raises nearly anything for the latter.
        tables = grammar.build(token_bytes)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        arrays = tables.steps_SxK._asdict() | {name: getattr(tables, name) for name in _VOCABULARY}
        arrays |= {f"acts.{name}": array for name, array in vars(tables.acts).items()}
        with cache.replacing(path) as part, part.open("xb") as file:
            np.savez(file, **arrays)
    return tables


def _digest(token_bytes: Sequence[bytes]) -> str:
    digest = hashlib.sha256(automaton.TABLE.tobytes())
    digest.update(np.asarray(automaton.hash_step(b"a")).tobytes())
    for table in phrases.automaton():
        digest.update(table.tobytes())
    digest.update(np.array([len(text) for text in token_bytes], np.int64).tobytes())
    digest.update(b"".join(token_bytes))
    return digest.hexdigest()[:32]


def _read(path: pathlib.Path) -> grammar.Grammar:
    with np.load(path) as arrays:
        return grammar.Grammar(
            steps_SxK=grammar.Steps(**{name: jnp.asarray(arrays[name]) for name in automaton.STEP.names}),
            **{name: jnp.asarray(arrays[name]) for name in _VOCABULARY},
            acts=acts.Acts(**{name: jnp.asarray(arrays[f"acts.{name}"]) for name in acts.Acts.__dataclass_fields__}),
        )
