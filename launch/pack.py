"""Writes what the workers of a TPU slice need into one archive, which only its owner can read.

  python -m launch.pack ARCHIVE [NAME ...]

It holds the code and, as a shell script, the named environment variables. Only the files listed here are packed: no git
or editor configuration, no data, no runs.
"""

import io
import os
import pathlib
import shlex
import sys
import tarfile

_CODE = ("constraints.txt", "experiments", "launch", "negot_jax", "pyproject.toml", "setup.py")
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def main(path: str, *names: str) -> None:
    os.umask(0o077)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    script = os.fsencode("".join(f"export {name}={shlex.quote(os.environ[name])}\n" for name in names))
    environment = tarfile.TarInfo(".launch/environment")
    environment.size, environment.mode = len(script), 0o600
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(environment, io.BytesIO(script))
        for name in _CODE:
            archive.add(_ROOT / name, name, filter=lambda entry: None if "__pycache__" in entry.name else entry)


if __name__ == "__main__":
    main(*sys.argv[1:])
