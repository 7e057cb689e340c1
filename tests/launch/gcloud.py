"""A stand-in for gcloud, which tests put first on PATH, and for the slice behind it.

It writes its arguments down. `describe` answers from a list of states, of which the last one stays; `create` makes new
workers, folders that stand for their home folders, and `ssh` and `scp` work in them. What is to fail is listed as well.
"""

import json
import pathlib
import shutil
import subprocess
import sys

CLOUD = pathlib.Path(__file__).resolve().parents[1]  # Installed as CLOUD/bin/gcloud: see `Cloud`.

# What is on the PATH of a worker: a python3 whose pip does nothing, and whose uv makes an environment of that kind.
PYTHON3 = """#!/bin/sh
echo "python3 $@" >> {log}
if [ "$2" = uv ]; then
  mkdir -p .venv/bin
  cp ~/bin/python .venv/bin
fi
"""
PYTHON = """#!/bin/sh
if [ "$2" = pip ]; then echo "python $@" >> {log}; else exec {python} -S "$@"; fi
"""


def main(arguments: list[str]) -> int:
    with (CLOUD / "calls").open("a") as calls:
        calls.write(json.dumps(["gcloud", *arguments]) + "\n")
    failures = json.loads((CLOUD / "failures").read_text())
    for index, (part, code) in enumerate(failures):
        if part in " ".join(arguments):
            (CLOUD / "failures").write_text(json.dumps(failures[:index] + failures[index + 1 :]))
            return code
    _, _, _, verb, *rest = [argument for argument in arguments if argument != "alpha"]
    positional, options = [], {}
    for argument in rest:
        if argument.startswith("--"):
            options.update([(argument + "=").split("=", 1)])
        else:
            positional.append(argument)
    if verb == "describe":
        return describe()
    if verb == "create" or not (CLOUD / "workers").exists():
        create()
    if verb == "create":
        return 0
    if verb == "ssh":
        return ssh(options["--command"][:-1], options["--worker"][:-1])
    if verb == "scp":
        scp(positional)
    return 0


def describe() -> int:
    state, *rest = json.loads((CLOUD / "states").read_text())
    if rest:
        (CLOUD / "states").write_text(json.dumps(rest))
    if state in ("NOT_FOUND", "UNAUTHENTICATED"):
        print(f"ERROR: (gcloud.describe) {state}: what gcloud says", file=sys.stderr)
        return 1
    print(state)
    return 0


def create() -> None:
    shutil.rmtree(CLOUD / "workers", ignore_errors=True)
    for worker in range(json.loads((CLOUD / "size").read_text())):
        folder = CLOUD / "workers" / str(worker) / "bin"
        folder.mkdir(parents=True)
        for name, script in {"python3": PYTHON3, "python": PYTHON}.items():
            (folder / name).write_text(script.format(log=CLOUD / "installed", python=sys.executable))
            (folder / name).chmod(0o700)


def ssh(command: str, worker: str) -> int:
    codes = []
    for home in sorted((CLOUD / "workers").iterdir()):
        if worker in ("all", home.name):
            environment = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", "WORKER": home.name}
            codes.append(subprocess.run(["sh", "-c", command], cwd=home, env=environment).returncode)
    return max(codes)


def scp(paths: list[str]) -> None:
    *sources, _ = paths
    for home in (CLOUD / "workers").iterdir():
        for source in sources:
            shutil.copy(source, home)  # With its mode.


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
