"""A judge of our own over real HTTP, which counts what it was asked. What it does is told item by item: the prompt of
item 7 holds "item <7>", and `plan` gives what happens at each time it is asked.
"""

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ITEM = re.compile(r"item <(\w+)>")
GOOD = "It is there. Rating: 4"
REFUSALS = {
    "whole": (200, {}, {"choices": [{"message": {"content": GOOD}, "finish_reason": "stop"}]}),
    "429": (429, {}, {"error": {"message": "Slow down"}}),
    "429-now": (429, {"Retry-After": "0.02"}, {"error": {"message": "Slow down"}}),
    "429-hour": (429, {"Retry-After": "3600"}, {"error": {"message": "Slow down"}}),
    "500": (500, {}, {"error": {"message": "the engine died"}}),
    "400": (400, {}, {"error": {"message": "This prompt is not allowed."}}),
    "402": (402, {}, {"error": {"message": "Insufficient credit"}}),
    "hot": (400, {}, {"error": {"message": "Unsupported value: 'temperature' does not support 0."}}),
    "newer": (400, {}, {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}}),
}


class JudgeServer(ThreadingHTTPServer):
    """`plan` maps an item to what happens, one word a time it is asked, the last one for all later times: a word of
    `REFUSALS`, "good", "cut", "other", "nameless", "malformed", "filtered", "empty", "echo" (it repeats the request's
    key), "drop" (the connection ends inside the reply), "hang" (it ends it without a word), "no-end" (the stream ends
    without a reason) or "late" (it finishes the reply, and the client is gone). Anything else is the reply's text.

    From `hold_after` replies on it holds the others back until `go` is set.
    `asked` counts requests of each item, `finished` those to which a whole reply was made: what a provider charges.
    """

    daemon_threads = True
    request_queue_size = 64
    allow_reuse_address = True

    def __init__(self, plan=None, port: int = 0, delay: float = 0.0, served: str = "gpt-4-0613"):
        self.plan, self.delay, self.served = plan or {}, delay, served
        self.asked, self.finished, self.requests = Counter(), Counter(), []
        self.lock, self.at_once, self.most_at_once = threading.Lock(), 0, 0
        self.open = set()
        self.go, self.hold_after = threading.Event(), None
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def stop(self) -> None:
        self.go.set()
        self.shutdown()
        self.server_close()

    def crash(self) -> None:
        """Every connection breaks and none is taken any more, as when the process dies."""
        self.shutdown()
        self.server_close()
        with self.lock:
            for connection in self.open:
                reset(connection)

    def handle_error(self, request, client_address) -> None:
        """A client that leaves is no error of this server."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: JudgeServer

    def log_message(self, *_) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        item = ITEM.search(body["messages"][-1]["content"])[1]
        with server.lock:
            words = server.plan.get(item, ["good"])
            word = words[min(server.asked[item], len(words) - 1)]
            server.asked[item] += 1
            server.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            server.open.add(self.connection)
        try:
            if server.delay:
                time.sleep(server.delay)
            if server.hold_after is not None and sum(server.finished.values()) >= server.hold_after:
                server.go.wait(60)
            self.answer(item, word, body)
        except OSError:
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1
                server.open.discard(self.connection)

    def answer(self, item: str, word: str, body: dict) -> None:
        server = self.server
        if word in REFUSALS:
            status, headers, message = REFUSALS[word]
            data = json.dumps(message).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            return
        if word == "hang":
            reset(self.connection)
            return
        key = self.headers.get("Authorization", "")
        text = {
            "good": GOOD,
            "cut": "It is long, and",
            "other": GOOD,
            "nameless": GOOD,
            "malformed": "I would say four of six.",
            "filtered": "It",
            "empty": "",
            "echo": f"{key} Rating: 3",
            "drop": GOOD,
            "no-end": GOOD,
            "late": GOOD,
        }.get(word, word)
        model = {"other": "gpt-4o-mini-2024-07-18", "nameless": ""}.get(word, server.served)
        reason = {"cut": "length", "filtered": "content_filter"}.get(word, "stop")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        half = len(text) // 2
        self.piece(model, {"role": "assistant", "content": text[:half]})
        if word == "drop":
            reset(self.connection)
            return
        if word == "late":
            # The last piece was made, and would be charged, but never gets out.
            with server.lock:
                server.finished[item] += 1
            server.go.wait(20)
            reset(self.connection)
            return
        if word == "no-end":
            self.piece(model, {"content": text[half:]})
            self.raw(b"data: [DONE]\n\n")
            self.raw(b"")
            return
        with server.lock:
            server.finished[item] += 1
        self.piece(model, {"content": text[half:]})
        self.piece(model, {}, reason)
        self.raw(b"data: [DONE]\n\n")
        self.raw(b"")

    def piece(self, model: str, delta: dict, reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
        self.raw(f"data: {json.dumps(body)}\n\n".encode())

    def raw(self, data: bytes) -> None:
        """One chunk of the body; the empty one ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def reset(connection: socket.socket) -> None:
    """Breaks a connection off as a crash does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
