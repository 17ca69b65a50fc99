"""The HTTP plumbing: sockets, bodies, the routing table, faults and the record of every request."""

import json
import re
import socket
import struct
import sys
import threading
import time
import traceback
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

from tests.hub.faults import Fault
from tests.hub.wire import Refusal, Request, Response

SECRET_HEADERS = ("authorization", "cookie")
KEPT_BODY = 1_000_000


def without_secrets(request: Request) -> bytes:
    """The body as far as no token belongs there: the secrets of a job or a Space are made for them."""
    if re.fullmatch(r"POST /api/spaces/[^/]+/[^/]+/secrets", str(request)):
        return b""
    if not re.fullmatch(r"POST /api/(jobs/[^/]+|repos/create|spaces/[^/]+/[^/]+/duplicate)", str(request)):
        return request.body
    return json.dumps({**request.json(), "secrets": None}).encode()


class Dropped(Exception):
    """The connection is gone: the fault wanted it, or the client has died."""


class HubServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub, port: int):
        self.hub = hub
        self.connections: set[socket.socket] = set()
        self.routes = [(method, re.compile(pattern), handle) for method, pattern, handle in hub.routes]
        super().__init__(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def find_route(self, method: str, path: str):
        for known, pattern, handle in self.routes:
            match = pattern.fullmatch(path) if known == method.replace("HEAD", "GET") else None
            if match:
                return handle, {name: unquote(text) for name, text in match.groupdict("").items()}
        return None, {}

    def stop(self) -> None:
        """No further request gets in, on no kept connection either."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._thread.join()

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HubServer

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format, *args) -> None:
        pass

    def answer(self) -> None:
        hub = self.server.hub
        path, _, query = self.path.partition("?")
        headers = {name.lower(): text for name, text in self.headers.items()}
        shown = {name: text for name, text in headers.items() if name not in SECRET_HEADERS}
        request = Request(self.command, path, parse_qs(query), shown)
        handle, groups = self.server.find_route(self.command, path)
        request.known = handle is not None
        hub.requests.append(request)
        fault = hub.faults.take(str(request))
        request.fault = str(fault) if fault else None
        try:
            self.receive(request, fault)
            request.leaks = hub.people.find_tokens([path, query, *shown.values()], without_secrets(request))
            response = self.respond(request, headers.get("authorization", ""), fault, handle, groups)
            self.send(request, response, fault)
        except Dropped:
            self.close_connection = True
        finally:
            request.done, request.token, request.client = True, None, None
            if len(request.body) > KEPT_BODY:
                request.body = b""

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def receive(self, request: Request, fault: Fault | None) -> None:
        """Reads the whole body, also of a request that will be refused: the next one comes over the same line."""
        if fault:
            time.sleep(fault.delay)
            if fault.drop == "before":
                self.reset()
        half = bool(fault) and fault.drop == "during"
        length = int(request.headers.get("content-length", 0))
        request.body = self.rfile.read(length // 2 if half else length)
        request.received = len(request.body)
        if half:
            self.reset()
        if request.received < length:
            raise Dropped

    def respond(self, request: Request, authorization: str, fault: Fault | None, handle, groups) -> Response:
        hub = self.server.hub
        if fault and fault.status:
            refusal = Refusal(fault.status, fault.message or responses.get(fault.status, "Fault"))
            refusal.headers = fault.headers
            return refusal.response()
        try:
            request.client = hub.openid.client(authorization)
            request.token = None if request.client else hub.people.identify(authorization)
            request.person = request.token and request.token.person
            if handle is None:
                raise Refusal(404, "Sorry, we can't find the page you are looking for.")
            return handle(hub, request, **groups)
        except Refusal as refusal:
            return refusal.response()
        except Exception:
            hub.crashes.append(f"{request}\n{traceback.format_exc()}")
            return Refusal(500, "Internal Error - the test Hub itself failed, see hub.crashes").response()

    def send(self, request: Request, response: Response, fault: Fault | None) -> None:
        drop = fault.drop if fault else None
        if drop == "reply":
            raise Dropped
        request.status = response.status
        length = {"Transfer-Encoding": "chunked"} if response.stream else {"Content-Length": str(len(response.body))}
        headers = {**length, **response.headers}
        lines = [f"HTTP/1.1 {response.status} {responses.get(response.status, '')}"]
        lines += [f"{name}: {text}" for name, text in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        if response.stream:
            self.wfile.write(head)
            return self.send_stream(response, drop)
        body = b"" if request.method == "HEAD" else response.body
        if drop == "after":
            self.wfile.write((head + body)[: len(head) + len(body) // 2 if body else len(head) // 2])
            raise Dropped
        self.wfile.write(head + body)

    def send_stream(self, response: Response, drop: str | None) -> None:
        """Chunk by chunk; a connection that drops "after" is cut after the third."""
        for number, piece in enumerate(response.stream):
            if drop == "after" and number == 3:
                raise Dropped
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """Ends the connection the hard way: the peer sees a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
        raise Dropped
