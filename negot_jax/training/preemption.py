"""SIGTERM and SIGINT: the machine is about to be taken away, or Ctrl-C was pressed. Both mean: leave, and resume later.

Where there is something to save, the signal is noted and obeyed at the next step boundary. Everywhere else the main
thread raises `Preempted` at once; what it was doing is repeated, bit for bit, by the next start. Python cannot raise
while the main thread is inside XLA, so a second thread ends the process if the main thread has not left in time.
"""

from collections.abc import Callable, Iterator
import contextlib
import select
import signal
import socket
import threading
import time

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_GRACE = 20.0  # Seconds in which the main thread must leave once nothing is left to save.
_ECHO = 0.3  # A SIGINT this soon after the first is the same Ctrl-C, forwarded by a launcher.

Leave = Callable[["Preempted"], None]


class Preempted(BaseException):
    """A signal came. Like KeyboardInterrupt it is no Exception, so that nothing mistakes it for its own error.

    signum: the signal, 0 if it reached another process. together: whether all processes of the run raise it here.
    """

    def __init__(self, signum: int, together: bool = False):
        super().__init__(signum, together)
        self.signum, self.together = signum, together


class _Signals:
    """What this process knows of its signals, which are global as well."""

    came = 0  # The first signal.
    noting = False  # Something must be saved before leaving.
    leaving = False  # `Preempted` was raised; later signals change nothing.


@contextlib.contextmanager
def obeyed(leave: Leave) -> Iterator[None]:
    """Within it, a signal ends the process through `leave`, which should not return. Main thread only.

    `leave` runs on the main thread once `Preempted` has unwound it. If that takes too long, or on a second SIGINT, it
    runs on another thread instead, so that any number of signals ends the process exactly once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watch = threading.Thread(target=_watch, args=(reader, leave), daemon=True)
    with _handled(), reader, writer:
        # The C handler writes the signal's number here even while the main thread cannot run Python.
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        watch.start()
        try:
            yield
            _Signals.leaving = True  # It is done: too late for a signal.
        except Preempted as error:
            leave(error)
        finally:
            signal.set_wakeup_fd(before)
            writer.close()
            watch.join()
            _Signals.leaving = False


@contextlib.contextmanager
def noted(agree: Callable[[bool], bool] = bool) -> Iterator[Callable[[], bool]]:
    """Within it, signals are only noted; at its end `Preempted` is raised if one came. No effect off the main thread.

    Yields a function that tells whether a signal came to this process; `agree` tells whether it came to any.
    """
    with _handled(), _noting(True):
        yield lambda: bool(_Signals.came)
        together = agree(bool(_Signals.came))
        if together or _Signals.came:
            _Signals.leaving = True  # From here on nothing raises a second time.
            raise Preempted(_Signals.came, together)


@contextlib.contextmanager
def prompt() -> Iterator[None]:
    """Within it, inside `noted`, signals are obeyed at once: for a long phase before there is anything to save."""
    with _noting(False):
        if _Signals.came:
            _raise()
        yield


def _raise() -> None:
    if not _Signals.leaving:
        _Signals.leaving = True
        raise Preempted(_Signals.came)


def _handle(signum: int, frame: object) -> None:
    _Signals.came = _Signals.came or signum
    if not _Signals.noting:
        _raise()


@contextlib.contextmanager
def _handled() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Within another one again: `jax.distributed` has a handler of its own.
    before = {signum: signal.signal(signum, _handle) for signum in SIGNALS}
    if _handle not in before.values():
        _Signals.came, _Signals.leaving = 0, False
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def _noting(value: bool) -> Iterator[None]:
    before, _Signals.noting = _Signals.noting, value
    try:
        yield
    finally:
        _Signals.noting = before


def _watch(reader: socket.socket, leave: Leave) -> None:
    """Leaves for a main thread that cannot."""
    came, deadline, interrupted = 0, 0.0, 0.0
    while True:
        numbers, now = b"", time.monotonic()
        if select.select([reader], [], [], 0.2)[0] and not (numbers := reader.recv(64)):
            return  # The other end was closed.
        for number in (number for number in numbers if signal.getsignal(number) is _handle):
            came, deadline = came or number, deadline or now + _GRACE
            if number == signal.SIGINT:
                if interrupted and now - interrupted > _ECHO:
                    leave(Preempted(number))
                interrupted = interrupted or now
        if _Signals.noting:
            deadline = now + _GRACE
        if came and now > deadline:
            leave(Preempted(came))
