"""A web server on loopback that answers as a test tells it to."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
from collections.abc import Callable

Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the server's next scripted answer, then with an honest one."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers)))
            answer = self.server.script.pop(0) if self.server.script else honest
        answer(self)

    def log_message(self, *args: object) -> None:
        """Keep the tests' output clean."""

    def begin(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def cut(self) -> None:
        """Close the connection, whatever was promised."""
        self.wfile.flush()
        self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` under every path."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag = f'"{hashlib.md5(content).hexdigest()}"'
        self.script: list[Answer] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests; anything else is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request so far."""
        return [headers.get("Range") for _, headers in self.requests]


def honest(handler: Handler) -> None:
    """The whole file, or the range that was asked for."""
    content, etag = handler.server.content, handler.server.etag
    wanted = handler.headers.get("Range")
    if wanted and handler.headers.get("If-Range", etag) == etag:
        first, last = wanted.removeprefix("bytes=").split("-")
        start, end = int(first), int(last) + 1 if last else len(content)
        if start >= len(content):
            handler.begin(416, 0, Content_Range=f"bytes */{len(content)}")
            return
        rest = content[start:end]
        content_range = f"bytes {start}-{start + len(rest) - 1}/{len(content)}"
        handler.begin(206, len(rest), ETag=etag, Content_Range=content_range)
        handler.wfile.write(rest)
    else:
        handler.begin(200, len(content), ETag=etag)
        handler.wfile.write(content)


def status(code: int) -> Answer:
    """Nothing but a status."""
    return lambda handler: handler.begin(code, 0)


def redirects(location: str, code: int = 302, **headers: str) -> Answer:
    """Sends the client elsewhere."""
    return lambda handler: handler.begin(code, 0, Location=location, **headers)


def tells(sha256: str, location: str) -> Answer:
    """Tells the file's hash and sends the client to a storage, as Hugging Face does."""
    return redirects(location, X_Linked_Etag=f'"{sha256}"')
