"""Reads the files of a checkpoint's folder. An error names the damaged file and says how to repair it."""

import json
import pathlib
from typing import Any

_AGAIN = "Download it again."


def require_folder(folder: str | pathlib.Path) -> None:
    """Raises ValueError unless the folder exists. For a repository on the Hub it says how to download it."""
    if not str(folder):
        raise ValueError("a checkpoint's folder has an empty name. Name the folder that was downloaded.")
    folder = pathlib.Path(folder)
    if folder.is_dir():
        return
    name = str(folder)
    if name.count("/") == 1 and not name.startswith(("/", ".", "~")):
        raise ValueError(
            f"{name} is not a folder. If it is a repository on the Hub, download it first: "
            f"hf download {name} --local-dir checkpoints/{folder.name}"
        )
    raise ValueError(f"{name} holds no checkpoint: {'not a folder' if folder.exists() else 'there is no such folder'}.")


def require_content(path: pathlib.Path) -> None:
    """Raises ValueError for a placeholder of a file: a git-lfs pointer, a web page, or an empty file."""
    try:
        with open(path, "rb") as file:
            head = file.read(512).lstrip().lower()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a git-lfs pointer, not the file itself. Run `git lfs pull` in its folder.")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(f"{path} is a web page, not the file itself. {_AGAIN}")
    if not head:
        raise ValueError(f"{path} is empty. {_AGAIN}")


def read_text(path: pathlib.Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark."""
    require_content(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}). {_AGAIN}") from error


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object that a JSON file holds."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}. {_AGAIN}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply. {_AGAIN}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, not an object. {_AGAIN}")
    return content
