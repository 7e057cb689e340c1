"""Lines on stderr that say what a command is doing, at least every few seconds."""

from collections.abc import Callable, Iterator
import contextlib
import sys
import threading
import time

EVERY = 10  # Seconds of silence after which a line is repeated.


@contextlib.contextmanager
def reported(every: float = EVERY) -> Iterator[Callable[[str], None]]:
    """Within it, `say(what)` prints a line, and repeats it with the seconds since then until something else is said."""
    lock, done = threading.Lock(), threading.Event()
    what, since, last = "", 0.0, 0.0

    def say(line: str) -> None:
        nonlocal what, since, last
        with lock:
            what, since = line, time.monotonic()
            last = since
            _print(line)

    def repeat() -> None:
        nonlocal last
        while not done.wait(every / 10):
            with lock:
                if what and (now := time.monotonic()) - last >= every:
                    last = now
                    _print(f"{what} ({now - since:.0f} s)")

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield say
    finally:
        done.set()
        thread.join()


def _print(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # A closed stderr is no reason to fail.
        print(line, file=sys.stderr, flush=True)
