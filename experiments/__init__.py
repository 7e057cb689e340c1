"""Command-line programs. Flags and `ml_collections` stop here."""

import itertools
import os
import signal
import sys


def _leave(signum: int, frame: object) -> None:
    os.write(2, b"\ninterrupted while starting: run the same command again\n")
    os._exit(os.EX_TEMPFAIL)


_pairs = itertools.pairwise(sys.orig_argv)
_started = any(flag == "-m" and module.startswith("experiments.") for flag, module in _pairs)
if sys.argv[0] == "-m" and _started:  # A command starts: for seconds it imports, until `cli.guard` takes over.
    for _signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_signum, _leave)
