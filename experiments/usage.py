"""What `--help` prints: the command's purpose and usage, its flags, then the configuration's fields by group."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import sys
import textwrap
from typing import Any

from absl import flags
from ml_collections import config_dict

_WIDTH, _INDENT = 110, 26  # Columns.
_SHORT, _FULL = {"--help", "-help", "-h", "--helpshort"}, {"--helpfull"}


def show(argv: Sequence[str], config: type | None = None, describe: Callable[[type], str] = str) -> None:
    """Prints the help and exits with code 0 if an argument asks for it.

    Args:
      argv: the arguments; those after "--" belong to another command.
      config: the class of the `--config` flag; --help lists its fields with their defaults.
      describe: gives what --helpfull prints about the fields of that class.
    """
    asked = set(argv[1 : list(argv).index("--") if "--" in argv else None])
    if not asked & (_SHORT | _FULL):
        return
    parts = [(sys.modules["__main__"].__doc__ or "").strip(), "Flags:\n" + "\n".join(_flag_lines())]
    if config is not None and asked & _FULL:
        parts.append(f"Configuration fields, --config.NAME=VALUE:\n\n{describe(config)}")
    elif config is not None:
        parts.append(
            "Configuration fields, --config.GROUP.NAME=VALUE, with defaults that the file of --config may change\n"
            "(--helpfull describes each):\n" + "\n".join(_field_lines(config(), ""))
        )
    print("\n\n".join(parts))
    sys.exit(0)


def _flag_lines() -> Iterator[str]:
    """One entry per flag of the main module, required ones first."""
    known = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    for flag in sorted(known, key=lambda flag: (not _required(flag), flag.name)):
        choices = getattr(flag.parser, "enum_values", None)
        name = f"--{flag.name}={'|'.join(choices) if choices else '...'}"
        text = flag.help.split(";\n")[0]  # absl adds that it may be repeated,
        text = text.partition(">: ")[2] if choices else text  # and the choices.
        default = "" if flag.default in (None, []) else f" Default: {_value(flag.default)}."
        if isinstance(flag.default, config_dict.ConfigDict):
            name, default = f"--{flag.name}.NAME=...", ""
        elif flag.boolean:
            name = f"--[no]{flag.name}" if flag.default else f"--{flag.name}"
            default = " Default: on." if flag.default else ""
        yield _entry(name, f"{'Required. ' if _required(flag) else ''}{text}{default}")


def _required(flag: flags.Flag) -> bool:
    return any("must have a value" in validator.message for validator in flag.validators)


def _field_lines(config: Any, path: str) -> Iterator[str]:
    """One entry per group: its name, then each field with its default."""
    values = {item.name: getattr(config, item.name) for item in dataclasses.fields(config)}
    groups = {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}
    if own := [f"{name}={_value(value)}" for name, value in values.items() if name not in groups]:
        yield _entry(path, "  ".join(own))
    for name, group in groups.items():
        yield from _field_lines(group, f"{path}{name}.")


def _value(value: Any) -> str:
    """A default as one would type it; of a long tuple the first entry."""
    if isinstance(value, list | tuple) and len(value) == 1 or isinstance(value, list | tuple) and len(str(value)) > 40:
        return f"{value[0]}{', ...' if len(value) > 1 else ''}"
    return str(value)


def _entry(name: str, text: str) -> str:
    margin = " " * _INDENT
    lines = textwrap.wrap(text, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)
    if len(name) + 4 > _INDENT or not lines:
        return "\n".join([f"  {name}", *lines])
    return "\n".join([f"  {name}".ljust(_INDENT) + lines[0].strip(), *lines[1:]])
