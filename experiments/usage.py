"""What `--help` prints: the command's purpose and usage, its flags, then the configuration's fields by group."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import sys
import textwrap
from typing import Any

from absl import flags

from negot_jax import progress

_WIDTH, _INDENT = 118, 26  # Columns.
_SHORT, _FULL = {"--help", "-help", "-h", "--helpshort"}, {"--helpfull"}


def show(argv: Sequence[str], config: type | None = None, describe: Callable[[type], str] = str) -> None:
    """Prints the help and exits with code 0 if an argument asks for it; those after "--" belong to another command.

    config: the class of the `--config` flag; --help lists its fields with their defaults, --helpfull `describe`s them.
    """
    asked = set(argv[1 : list(argv).index("--") if "--" in argv else None])
    if not asked & (_SHORT | _FULL):
        return
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        if any("must have a value" in validator.message for validator in flag.validators):
            flag.help = f"Required. {flag.help}"
    _, _, listed = flags.FLAGS.main_module_help().strip().partition("\n")  # The first line names the module.
    listed = listed.replace("\n    (default: '')", "")
    parts = [(sys.modules["__main__"].__doc__ or "").strip(), f"Flags:\n{listed}"]
    if config is not None and asked & _FULL:
        parts.append(f"Configuration fields, --config.NAME=VALUE:\n\n{describe(config)}")
    elif config is not None:
        parts.append(
            "Configuration fields, --config.GROUP.NAME=VALUE, with defaults that the file of --config may change\n"
            "(--helpfull describes each):\n" + "\n".join(_groups(config(), ""))
        )
    print("\n\n".join(parts), file=progress.Tolerant(sys.stdout), flush=True)  # As in `--help | head`.
    sys.exit(0)


def _groups(config: Any, path: str) -> Iterator[str]:
    """One entry per group: its name, then each field with its default; of a long tuple the first item."""
    values = vars(config)
    groups = {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}
    short = lambda value: f"{value[0]}, ..." if isinstance(value, tuple) and len(str(value)) > 40 else value
    if own := [f"{name}={short(value)}" for name, value in values.items() if name not in groups]:
        head = f"  {path}".ljust(_INDENT)
        yield textwrap.fill("  ".join(own), _WIDTH, initial_indent=head, subsequent_indent=" " * _INDENT)
    for name, group in groups.items():
        yield from _groups(group, f"{path}{name}.")
