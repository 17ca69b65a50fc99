"""What the tests' servers share that speak OpenAI's chat completions over real HTTP: they count, stream and stop."""

import contextlib
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StreamingServer(ThreadingHTTPServer):
    """Listens on a free port, or on `port`. `requests` are (headers, body) as they came, `most_at_once` how many were
    answered together; `go` ends what waits for it.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type["StreamingHandler"], port: int = 0):
        self.requests: list[tuple[dict, dict]] = []
        self.lock, self.at_once, self.most_at_once = threading.Lock(), 0, 0
        self.go = threading.Event()
        super().__init__(("127.0.0.1", port), handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def stop(self) -> None:
        self.go.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client that leaves is no error of this server."""


class StreamingHandler(BaseHTTPRequestHandler):
    """`answer(body)` is what a server of its own does with a request."""

    protocol_version = "HTTP/1.1"
    server: StreamingServer

    def log_message(self, *_) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            self.answer(body)
        except OSError:
            self.left()
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    def left(self) -> None:
        """The client has gone."""

    def open_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, model: str, delta: dict, reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
        self.raw(f"data: {json.dumps(body)}\n\n".encode())

    def end_stream(self) -> None:
        self.raw(b"data: [DONE]\n\n")
        self.raw(b"")

    def raw(self, data: bytes) -> None:
        """One chunk of the body; the empty one ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def send_json(self, status: int, headers: dict, body: dict) -> None:
        self.send_whole(status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode())

    def send_whole(self, status: int, headers: dict, data: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def reset(connection: socket.socket) -> None:
    """Breaks a connection off as a crash does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
