"""What SIGTERM does to a run: the notice that a machine is about to be taken away.

Where there is something to save, the notice is noted and asked for at the next good moment; everywhere else the process
leaves at once, since what it was doing is done again, equally, by the next start.
"""

from collections.abc import Callable, Iterator
import contextlib
import signal


class Preempted(BaseException):
    """SIGTERM came. As with KeyboardInterrupt no Exception, so that nothing on its way takes it for its own error.

    together: whether every process of the run raises it here.
    """

    def __init__(self, together: bool = False):
        super().__init__()
        self.together = together


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Within it, SIGTERM raises `Preempted` wherever the main thread is. To be entered by the main thread."""

    def leave(signum, frame):
        raise Preempted

    with _handler(leave):
        yield


@contextlib.contextmanager
def noted(agree: Callable[[bool], bool] = bool) -> Iterator[Callable[[], bool]]:
    """Within it, SIGTERM is only noted; at its end `Preempted` is raised if it came. To be entered by the main thread.

    Args:
      agree: whether something holds on any process of a run: `distributed.agree`.

    Yields:
      A function that says whether SIGTERM came to this process.
    """
    came = []
    with _handler(lambda signum, frame: came.append(signum)):
        yield lambda: bool(came)
        together = agree(bool(came))
    if together or came:
        raise Preempted(together)


@contextlib.contextmanager
def _handler(handler: Callable) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
