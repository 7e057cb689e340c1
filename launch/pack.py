"""Writes what the workers of a TPU slice need into a folder of this machine.

  python -m launch.pack FOLDER [NAME ...]

FOLDER gets negot_jax.tar.gz, the code, and negot_jax.env, the named environment variables as JSON, which only its owner
can read. Only the files listed here are packed: no git or editor configuration, no data, no runs.
"""

import json
import os
import pathlib
import sys
import tarfile

from launch import commands

_CODE = ("constraints.txt", "experiments", "launch", "negot_jax", "pyproject.toml", "setup.py")
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def main(folder: str, *names: str) -> None:
    target = pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o700)
    with tarfile.open(target / commands.ARCHIVE, "w:gz") as archive:
        for name in _CODE:
            archive.add(_ROOT / name, name, filter=lambda entry: None if "__pycache__" in entry.name else entry)
    path = target / commands.ENVIRONMENT
    path.unlink(missing_ok=True)  # The mode applies only to a new file.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({name: os.environ[name] for name in names}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
