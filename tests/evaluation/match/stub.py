"""A server of chat completions that misbehaves on demand, and counts what it is asked."""

from collections import Counter
from collections.abc import Callable, Iterator
import contextlib
import http.server
import json
import threading
import time
from typing import Any

KEY = "sk-secret-key-123"
BUY = "Talk: Hi.\nAction: [BUY] $10 (1x toys_1)"


def completion(content: Any, finish: str = "stop", **message) -> str:
    """A whole answer of 7 + 3 tokens."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


class Server:
    """Answers request number i (from 0) by `answer(i, body)`: (status, headers, text).

    bodies: of all requests. asked: how often each was made. A text of None closes the connection in mid-reply.
    """

    def __init__(self, answer: Callable[[int, dict], tuple[int, dict, str | None]], seconds: float = 0.0):
        self.answer, self.seconds = answer, seconds
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.lock = threading.Lock()
        self.going, self.most = 0, 0  # Requests at once.

    @property
    def asked(self) -> Counter:
        return Counter(json.dumps(body, sort_keys=True) for body in self.bodies)


@contextlib.contextmanager
def serving(server: Server) -> Iterator[str]:
    """Serves on a free port of this machine; yields the base URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                number = len(server.bodies)
                server.bodies.append(body)
                server.headers.append(dict(self.headers))
                server.going += 1
                server.most = max(server.most, server.going)
            time.sleep(server.seconds)
            with server.lock:
                server.going -= 1
            status, headers, text = server.answer(number, body)
            data = (text if text is not None else completion(BUY)).encode()
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(data)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data if text is not None else data[: len(data) // 2])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}/v1"
        finally:
            listening.shutdown()
            thread.join()
