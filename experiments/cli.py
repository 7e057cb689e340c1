"""What the commands share: how they read flags, how they say what is wrong, how they end.

A command ends with 0 when it is done; with 1 and one line, `error: ...`, when something that it was given is wrong or
something that it needs fails; with PREEMPTED when it was asked to leave and the same command will go on. Anything else,
a traceback, is a fault of the program.
"""

from collections.abc import Callable, Iterator
import contextlib
import errno
import functools
import logging as standard_logging
import os
import re
import signal
import sys

from absl import app, flags, logging
from etils import epath

from negot_jax import config as door
from negot_jax.run import config as configs
from negot_jax.run.folder import MARKER
from negot_jax.training import distributed, preemption
from negot_jax.training.checkpoint import CheckpointError
from negot_jax.training.loop import NotFiniteError

# EX_TEMPFAIL of sysexits.h, 75: "try again later". Not 143, which a process that saved nothing ends with as well.
PREEMPTED = os.EX_TEMPFAIL

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(Exception):
    """Something that a command was given is wrong; the message names it and the way out."""


def run(main: Callable[..., None], config: type | None = None, names: bool = False) -> None:
    """Runs a command: its whole `if __name__ == "__main__"`.

    Args:
      main: reads the flags, checks its input within `checking_input`, then works.
      config: the class of the `--config` flag, where there is one.
      names: whether arguments that are no options are passed to `main`; else they are refused.
    """
    sys.unraisablehook = _unraisable
    try:
        parse = functools.partial(_parse, config, names)
        app.run(lambda argv: guard(functools.partial(main, *argv[1:])), flags_parser=parse)
    except BaseException as error:
        distributed.leave(error)
        raise


def guard(main: Callable[[], None]) -> None:
    """Runs a command's `main`. What it is expected to fail with ends it with one line and the exit code 1."""
    # Of libraries: what goes wrong comes to us as an exception, and what we say is printed.
    logging.set_verbosity(logging.FATAL)
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
    try:
        main()
    except OSError as error:
        _fail(
            f"{error}. Make room, then the same command goes on from what is saved." if error.errno in _FULL else error
        )
    except (InputError, CheckpointError, NotFiniteError) as error:
        _fail(error)


@contextlib.contextmanager
def checking_input() -> Iterator[None]:
    """Within it, values and types that are wrong are the user's, and end the command with one line."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from error


@contextlib.contextmanager
def preemptible(workdir: epath.Path) -> Iterator[None]:
    """Within it, SIGTERM ends the command with the exit code and the marker of a preemption: see `preemption`."""
    try:
        with preemption.raised():
            yield
    except preemption.Preempted as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # We are leaving.
        if distributed.is_first():
            with contextlib.suppress(OSError):  # On a full disk, the exit code alone says it.
                (workdir / MARKER).write_text("Preempted by SIGTERM. The same command goes on from what is saved.\n")
            print(f"preempted: the same command goes on from what is saved in {workdir}", file=sys.stderr)
        if error.together:
            distributed.part()
        # Not an orderly exit, which has been seen to crash: a compilation that was cut short cannot be torn down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(PREEMPTED)


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """As Python's, but silent about writes that are still under way when their save has failed, which we tell of."""
    if str(what.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(what)


def _fail(error: object) -> None:
    sys.exit(f"error: {' '.join(str(error).split())}")


def _parse(config: type | None, names: bool, argv: list[str]) -> list[str]:
    try:
        if config is not None:
            _check_config(config, flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False))
        rest = flags.FLAGS(argv)
        if rest[1:] and not names:
            raise InputError(f"unexpected arguments {' '.join(rest[1:])}: options are written --name=value")
        return rest
    except (flags.Error, InputError) as error:
        _fail(error)


def _check_config(config: type, arguments: list[str]) -> None:
    """Finds what is wrong with --config and the names of --config.x.y, which `config_flags` answers by tracebacks."""
    with checking_input():
        for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
            if override := re.match(r"--?(?:no)?config\.([^=]*)", argument):
                door.require_field(config, override[1])
            elif given := re.fullmatch(r"--?config(?:=(.*))?", argument):
                configs.read_file(given[1] or following)
