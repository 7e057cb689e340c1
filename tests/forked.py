"""Runs commands in processes forked from one that has already imported what they need: each starts in milliseconds."""

from collections.abc import Iterator, Mapping
import contextlib
import multiprocessing
from multiprocessing.process import BaseProcess
import os
import pathlib
import re
import runpy
import sys
import tempfile

_CONTEXT = multiprocessing.get_context("forkserver")
# Not the commands themselves: each is run as the main program, and defines flags, which are global.
_CONTEXT.set_forkserver_preload(
    ["experiments.cli", "negot_jax.run", "negot_jax.catalog.amazon_history_price", "negot_jax.evaluation.report"]
)


@contextlib.contextmanager
def running(
    module: str,
    arguments: list[str],
    streams: tuple[str | os.PathLike, ...] = (os.devnull,) * 3,
    environment: Mapping[str, str] | None = None,
) -> Iterator[BaseProcess]:
    """`python -m module arguments` at work; gone at the end, whatever the test has found.

    Args:
      module, arguments: the command.
      streams: the files that are its stdin, stdout and stderr.
      environment: variables besides those of this process.
    """
    process = _CONTEXT.Process(target=_run, args=(module, arguments, streams, dict(environment or {})))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def run(
    module: str, arguments: list[str], seconds: float = 300, environment: Mapping[str, str] | None = None
) -> tuple[int | None, str, str]:
    """Runs `python -m module arguments`.

    Returns:
      The exit code, or None where it had to be ended after so many seconds; stdout and stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = (pathlib.Path(folder) / name for name in ("out", "err"))
        with running(module, arguments, (os.devnull, out, err), environment) as process:
            process.join(seconds)
            code = process.exitcode
        return code, out.read_text(), err.read_text()


def refused(module: str, arguments: list[str]) -> str:
    """The one line of a command that must not get to work."""
    code, out, err = run(module, arguments)
    assert code == 1, (out, err)
    assert "parameters" not in out  # What training says first.
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    return err


def _run(module: str, arguments: list[str], streams: tuple, environment: dict[str, str]) -> None:
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        with open(streams[descriptor], mode) as file:
            os.dup2(file.fileno(), descriptor)
        setattr(sys, name, open(descriptor, mode, closefd=False))  # What was there remembers another kind of file.
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
