"""What the commands share: how they read flags, how they say what is wrong, how they end.

A command ends with 0 when it is done; with 1 and one line, `error: ...`, when something that it was given is wrong or
something that it needs fails; with PREEMPTED when SIGTERM or SIGINT stopped it and the same command resumes, or before
it had begun (see `experiments`); and as the shell has it, 128 and the signal's number, where there is nothing to
resume. Anything else, a traceback, is a fault of the program.
"""

from collections.abc import Callable, Iterator
import contextlib
import errno
import functools
import io
import itertools
import logging as standard_logging
import os
import re
import sys
from typing import Any

from absl import app, flags, logging
from etils import epath
import jax
from ml_collections import config_flags

from experiments import usage
from negot_jax import cache, progress
from negot_jax import config as schema
from negot_jax.run import config as configs
from negot_jax.run.folder import MARKER, FolderError
from negot_jax.training import distributed, preemption
from negot_jax.training.checkpoint import CheckpointError
from negot_jax.training.loop import NotFiniteError

# EX_TEMPFAIL of sysexits.h, 75: "try again later". Not 143, which a process that saved nothing ends with as well.
PREEMPTED = os.EX_TEMPFAIL

_CACHE_HELP = (
    "Folder, or gs://bucket/folder, that keeps compiled programs for the next start; by default the user's cache "
    "folder. --compilation_cache= keeps none."
)


class InputError(Exception):
    """Something that a command was given is wrong; the message names it and the way out."""


def run(main: Callable[[], None], config: type | None = None, compiles: bool = False) -> None:
    """Runs a command, whose flags its `if __name__ == "__main__"` has defined: as a module it defines none.

    main: reads the flags, checks its input within `checking_input`, then works. config: the class of the `--config`
    flag, where there is one. compiles: whether the command has --compilation_cache.
    """
    if compiles:
        flags.DEFINE_string("compilation_cache", None, _CACHE_HELP)
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["compilation_cache"])

    def work() -> None:
        if compiles:
            cache.keep_compiled(flags.FLAGS.compilation_cache)
        main()

    sys.unraisablehook = _unraisable
    # A standard stream that was closed, `2>&-`, leaves its number to the next file, and libraries write there.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    try:
        app.run(lambda argv: guard(work), flags_parser=functools.partial(_parse, config))
    except BaseException as error:
        distributed.leave(error)
        raise


def guard(main: Callable[[], None]) -> None:
    """Runs a command's `main`. An expected failure or a signal ends it with one line and its exit code."""
    # Of libraries: what goes wrong comes to us as an exception, and what we say is printed.
    logging.set_verbosity(logging.FATAL)
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
    try:
        with _tolerant_streams(), preemption.obeyed(lambda error: _leave(128 + error.signum, "interrupted")):
            main()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        _fail(f"{error}. Make room, and run the same command to resume from what is saved." if full else error)
    except (InputError, FolderError, CheckpointError, NotFiniteError) as error:
        _fail(error)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _fail(
            f"out of memory: {str(error).splitlines()[0][:200]}. In training raise learner.micro_batches or set "
            "model.remat=full; for rollouts lower learner.scenarios or evaluation.batch; or take more devices."
        )


@contextlib.contextmanager
def _tolerant_streams() -> Iterator[None]:
    """Within it, printing never fails, be it for a character that a stream cannot write or a stream that is gone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace", line_buffering=True)
    with contextlib.redirect_stdout(progress.Tolerant(sys.stdout)):
        with contextlib.redirect_stderr(progress.Tolerant(sys.stderr)):
            yield


@contextlib.contextmanager
def checking_input() -> Iterator[None]:
    """Within it, values and types that are wrong are the user's, and end the command with one line."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from error


@contextlib.contextmanager
def preemptible(workdir: epath.Path) -> Iterator[None]:
    """Within it, SIGTERM and SIGINT end the command with PREEMPTED and the marker: see `preemption`."""
    first = distributed.is_first()

    def leave(error: preemption.Preempted) -> None:
        if first:
            with contextlib.suppress(OSError):  # On a full disk, the exit code alone says it.
                (workdir / MARKER).write_text("Stopped by a signal. The same command resumes from what is saved.\n")
        if error.together:
            distributed.disconnect()
        _leave(PREEMPTED, f"preempted: the same command resumes from what is saved in {workdir}" if first else None)

    with preemption.obeyed(leave):
        yield


def _leave(code: int, told: str | None) -> None:
    """Ends the process at once. An orderly exit has been seen to crash where a compilation was cut short."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{told}\n".encode() if told else b"")  # Not by `sys.stderr`, which the main thread may hold.
    os._exit(code)


def define_config(help: str) -> flags.FlagHolder:
    """Defines --config=FILE, a configuration in Python."""
    _expanded(sys.argv[1:])  # ConfigDict's flags read --flagfile as they are defined, and answer by a traceback.
    return config_flags.DEFINE_config_file("config", None, help)


def define_overrides(config: type, help: str) -> Callable[[], dict[str, Any]]:
    """Defines --config.x.y=v for the fields of a configuration class. Returns what gives the ones that are set."""
    try:
        _check_config(config, _expanded(sys.argv[1:]))  # ConfigDict's flags answer an unknown field by a traceback.
    except InputError as error:
        _fail(error)
    config_flags.DEFINE_config_dict("config", schema.to_config_dict(config()), help)
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS["config"])
    flags.FLAGS["config"].default_as_str = "the run's"
    return lambda: config_flags.get_override_values(flags.FLAGS["config"])


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """As Python's, but silent about writes that are under way when their save has failed, which is told already."""
    if str(what.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(what)


def _fail(error: object) -> None:
    sys.exit(f"error: {' '.join(str(error).split())}")


def _parse(config: type | None, argv: list[str]) -> list[str]:
    usage.show(argv, config, schema.help_text)
    try:
        arguments = _expanded(argv[1:])
        if config is not None:
            _check_config(config, arguments)
        rest = flags.FLAGS(argv)
        if rest[1:]:
            raise InputError(f"unexpected arguments {' '.join(rest[1:])}: options are written --name=value")
        return rest
    except (flags.Error, InputError) as error:
        _fail(error)


def _expanded(arguments: list[str]) -> list[str]:
    """The arguments, with those in the file of --flagfile in its place."""
    try:
        return flags.FLAGS.read_flags_from_files(arguments, force_gnu=False)
    except (flags.Error, UnicodeDecodeError) as error:
        _fail(f"--flagfile: {str(error).removeprefix('ERROR:: ')}. Name a text file with one flag per line.")


def _check_config(config: type, arguments: list[str]) -> None:
    """Finds what is wrong with --config and the names of --config.x.y, which `config_flags` answers by tracebacks."""
    with checking_input():
        for argument, following in itertools.pairwise([*arguments, ""]):
            if override := re.match(r"--?(?:no)?config\.([^=]*)=?(\{?)", argument):
                schema.require_field(config, override[1])
                if schema.is_group(config, name := override[1]) and not override[2]:
                    whole = "; or name --config=experiments/configs/quickstart.py:ppo" if name == "algorithm" else ""
                    raise InputError(f"{argument}: {name} is a group. Set --config.{name}.FIELD=VALUE{whole}.")
            elif given := re.fullmatch(r"--?config(?:=(.*))?", argument):
                configs.read_file(following if given[1] is None else given[1])
