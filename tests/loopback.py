"""A server on this machine that misbehaves on demand, for the tests of downloads."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Server:
    """What is served, how, and what was asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    #: (path, Range header or "") of each request.
    requests: list[tuple[str, str]] = field(default_factory=list)
    #: Number of body bytes after which the connection is cut, one per request; afterwards all is sent.
    cuts: list[int] = field(default_factory=list)
    #: Error statuses for the next requests.
    statuses: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    announce: int | None = None  # a Content-Length that is not true
    headers: dict[str, str] = field(default_factory=dict)
    before_body: Callable[[], None] | None = None

    def add(self, stem: str, content: bytes, digits: int = 8) -> tuple[str, str]:
        """Serves a file whose name carries its hash; returns its URL and the hash's digits."""
        sha256 = hashlib.sha256(content).hexdigest()[:digits]
        name = f"{stem}-{sha256}.pth"
        self.files["/" + name] = content
        return f"{self.address}/{name}", sha256


@contextmanager
def serving() -> Iterator[Server]:
    """Serves from a thread until the block ends."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.requests.append((self.path, wanted))
            self.close_connection = True
            if state.statuses:
                self.answer(state.statuses.pop(0), b"")
            elif self.path in state.redirects:
                self.answer(302, b"", {"Location": state.redirects[self.path]})
            elif self.path not in state.files:
                self.answer(404, b"not here")
            else:
                self.send_file(state.files[self.path], wanted)

        def send_file(self, content: bytes, wanted: str) -> None:
            found = re.fullmatch(r"bytes=(\d+)-", wanted) if state.ranges else None
            start = int(found[1]) if found else 0
            if found and start >= len(content):
                self.answer(416, b"")
                return
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if found else {}
            self.answer(206 if found else 200, content[start:], headers)

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            length = len(body) if state.announce is None else state.announce
            for key, value in {"Content-Length": str(length), **(headers or {}), **state.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if state.before_body is not None:
                state.before_body()
            cut = state.cuts.pop(0) if state.cuts and body else len(body)
            try:
                self.wfile.write(body[:cut])
                self.wfile.flush()
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client had enough

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
