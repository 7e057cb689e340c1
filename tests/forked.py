"""Runs commands in processes forked from one that has already imported what they need: each starts in milliseconds."""

import multiprocessing
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


def run(module: str, arguments: list[str], seconds: float = 300) -> tuple[int | None, str, str]:
    """Runs `python -m module arguments`.

    Returns:
      The exit code, or None where it had to be ended after so many seconds; stdout and stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = (pathlib.Path(folder) / name for name in ("out", "err"))
        process = _CONTEXT.Process(target=_run, args=(module, arguments, out, err))
        process.start()
        process.join(seconds)
        code = process.exitcode
        process.kill()
        process.join()
        return code, out.read_text(), err.read_text()


def refused(module: str, arguments: list[str]) -> str:
    """The one line of a command that must not get to work."""
    code, out, err = run(module, arguments)
    assert code == 1, (out, err)
    assert "parameters" not in out  # What training says first.
    assert re.fullmatch(r"error: [^\n]+\n", err), err
    return err


def _run(module: str, arguments: list[str], out: pathlib.Path, err: pathlib.Path) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
