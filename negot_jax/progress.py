"""Shows what a command is doing: a bar on a terminal, otherwise a line every 15 seconds. It never raises."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import os
import sys
import threading
from typing import Any, TextIO

import jax
import tqdm

_SECONDS = 15.0  # Between two lines where there is no terminal.
_active: list["Bar"] = []  # Only the innermost one prints.


class Tolerant:
    """A text stream that discards its output once it cannot be written: the reader has exited, or the disk is full."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream or open(os.devnull, "w")  # Python has None for a stream that was closed, `2>&-`.

    def write(self, text: str) -> int:
        with self._forgiven():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgiven():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):
            # What is still buffered would fail again as the interpreter exits.
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


class _Lines(tqdm.tqdm):
    """A bar without a terminal: each update prints a whole line."""

    @staticmethod
    def status_printer(file: TextIO):
        return lambda text: (file.write(text + "\n"), file.flush())

    def close(self) -> None:
        if not self.disable and self.leave:
            self.refresh()
        self.disable = True


class Bar(contextlib.AbstractContextManager):
    """Counts steps on stderr; of many processes, only the first one's shows. A context manager.

    total: how many steps; None for a phase, such as "compiling train_step", which shows its time alone. done: steps
    that an earlier start has done.
    """

    def __init__(self, name: str, total: int | None = None, done: int = 0):
        stream = Tolerant(sys.stderr)
        self._terminal = stream.isatty()
        self._bar = (tqdm.tqdm if self._terminal else _Lines)(
            desc=name,
            total=total,
            initial=done,
            file=stream,
            leave=total is not None,
            mininterval=0.1 if self._terminal else float("inf"),  # Lines are left to the thread.
            disable=jax.distributed.is_initialized() and jax.process_index() > 0,
            dynamic_ncols=self._terminal,
            position=None if self._terminal else 0,
            bar_format="{desc} ... {elapsed}" if total is None else None,
        )
        self._closed = threading.Event()
        _active.append(self)
        threading.Thread(target=self._beat, daemon=True).start()

    def update(self, scalars: Mapping[str, float] | None = None, shown: Sequence[str] = ()) -> None:
        """Counts a step and shows the scalars named in `shown` beside the count."""
        if scalars is not None:
            told = {name: f"{scalars[name]:.3g}" for name in shown if name in scalars}
            self._bar.set_postfix(told, refresh=False)
        self._bar.update()

    def __exit__(self, *_) -> None:
        self._closed.set()
        _active.remove(self)
        self._bar.close()

    def _beat(self) -> None:
        while not self._closed.wait(1.0 if self._terminal else _SECONDS):
            if _active[-1:] == [self]:
                self._bar.refresh()


@contextlib.contextmanager
def phases() -> Iterator[Callable[[str], None]]:
    """Yields `say`, to be called as each phase of some work begins; it shows the phase as a `Bar` without a total."""
    with contextlib.ExitStack() as current:

        def say(name: str) -> None:
            current.close()
            current.enter_context(Bar(name))

        yield say
