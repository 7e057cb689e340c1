"""`transformers serve` on a checkpoint's folder, on the loopback."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request


@contextlib.contextmanager
def serving(model: pathlib.Path, scratch: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Yields the server's base URL and its log. It answers to the folder's name."""
    log = scratch / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    command = [pathlib.Path(sys.executable).with_name("transformers"), "serve", model, "--device=cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch / "home")}
    with open(log, "wb") as file:
        server = subprocess.Popen(
            [*command, "--host", host, "--port", str(port)], env=environment, stdout=file, stderr=file
        )
    try:
        _wait_for(f"http://{host}:{port}/health", server, log)
        yield f"http://{host}:{port}/v1", log
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str, server: subprocess.Popen, log: pathlib.Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        try:
            return urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())
