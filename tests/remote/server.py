"""A server of our own that speaks OpenAI's chat completions over real HTTP. What it does is the name of the model."""

import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ("A", " cat", " and", " a", " red", " cup", " on", " the", " table.")
SAID = "".join(WORDS)
TEXT_ONLY = "At most 0 image(s) may be provided in one request."
REFUSALS = {
    "unpaid": (402, {}, {"error": {"message": "Insufficient credit"}}),
    "forbidden": (403, {}, {"error": "You have no access to this model"}),
    "busy": (429, {"Retry-After": "17"}, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}),
    "broken": (500, {}, {"error": {"message": "CUDA out of memory"}}),
    "loading": (503, {}, {"error": {"message": "Loading model"}}),
    "too-long": (400, {}, {"error": {"message": "This model's maximum context length is 2048 tokens."}}),
    "elsewhere": (307, {"Location": "http://other.example/v1?secret=1"}, {}),
}


class OpenAIServer(ThreadingHTTPServer):
    """Listens on a free port. `requests` are (headers, body) as they came; `abandoned` counts streams that the client
    left, `most_at_once` how many were answered together. With a `key` nobody gets in without it.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, key: str = "", delay: float = 0.0, models: tuple[str, ...] = ()):
        self.key, self.delay, self.models = key, delay, models
        self.requests: list[tuple[dict, dict]] = []
        self.lock, self.at_once, self.most_at_once, self.abandoned = threading.Lock(), 0, 0, 0
        self.go = threading.Event()
        self.pauses = 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def stop(self) -> None:
        self.go.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """A client that leaves is no error of this server."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OpenAIServer

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
        except (BrokenPipeError, ConnectionResetError):
            with server.lock:
                server.abandoned += 1
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    def answer(self, body: dict) -> None:
        name, server = body["model"], self.server
        given = self.headers.get("Authorization", "")
        if self.path != "/v1/chat/completions":
            return self.refuse(404, {}, {"detail": "Not Found"})
        if server.key and given != f"Bearer {server.key}":
            echoed = given.removeprefix("Bearer ")
            return self.refuse(401, {}, {"error": {"message": f"Incorrect API key provided: {echoed}."}})
        if name in REFUSALS:
            return self.refuse(*REFUSALS[name])
        if name == "unknown" or (server.models and name not in server.models):
            return self.refuse(404, {}, {"error": {"message": f"The model `{name}` does not exist.", "code": 404}})
        if name == "text-only" and any(isinstance(message["content"], list) for message in body["messages"]):
            return self.refuse(400, {}, {"error": {"message": TEXT_ONLY}})
        if name == "picky":
            for setting in ("seed", "temperature"):
                if setting in body:
                    detail = {
                        "type": "extra_forbidden",
                        "loc": ["body", setting],
                        "msg": "Extra inputs are not permitted",
                    }
                    return self.refuse(422, {}, {"detail": [{**detail, "input": "A" * 4000}]})
        if name == "newer" and "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return self.refuse(400, {}, {"error": {"message": message}})
        if name == "pausing" and server.pauses < 2:
            server.pauses += 1
            return self.refuse(429, {"Retry-After": "0"}, {"error": {"message": "Slow down"}})
        if name == "page":
            return self.send_whole(200, {"Content-Type": "text/html"}, b"<html>Welcome</html>")
        if name == "whole":
            message = {"message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
            return self.refuse(200, {}, {"choices": [message]})
        self.stream(name, body)

    def stream(self, name: str, body: dict) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        words, reason, served = WORDS, "stop", {"path": "/srv/models/llava.gguf", "alias": "gpt-4o-2024-11-20"}
        self.served = served.get(name, name)
        self.piece({"role": "assistant", "content": ""})
        if name == "silent":
            self.server.go.wait(20)
        if name == "thinks":
            for thought in ("It is", " a cat"):
                self.piece({"reasoning_content": thought})
        if name == "thinks-aloud":
            words = ("<thi", "nk>Is it", " a dog? No.", "</thi", "nk>", "\n\n", *WORDS)
        if name == "only-thinks":
            words, reason = ("<think>", "hmm", " hmm"), "length"
        if name == "no-json":
            self.piece({"content": "A"})
            self.raw(b"data: {nothing like JSON\n\n")
            return self.raw(b"")
        if name == "filtered":
            words, reason = WORDS[:2], "content_filter"
        if name == "length":
            words, reason = WORDS[:3], "length"
        if name == "aligned":
            words = (*WORDS[:3], " a", " blue", " cup.")
        if name == "deaf":
            words = ()
        if name == "history":
            words = (f"turns: {len(body['messages'])}",)
        delay = self.server.delay
        for number, word in enumerate(words):
            if name == "cut" and number == 4:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                raise ConnectionResetError
            if name == "fails" and number == 4:
                self.raw(b'data: {"error": {"message": "the engine died", "code": 500}}\n\n')
                return self.raw(b"")
            if name == "stalls" and number == 4:
                self.server.go.wait(20)
            if name == "drips":
                time.sleep(0.2)
            self.piece({"content": word})
            time.sleep(delay)
        if name not in ("endless", "no-reason", "deaf"):
            self.piece({}, reason)
        while name == "endless":
            self.piece({"content": " and"})
            time.sleep(0.01)
        self.raw(b"data: [DONE]\n\n")
        self.raw(b"")

    def piece(self, delta: dict, reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        body = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": self.served, "choices": [choice]}
        self.raw(f"data: {json.dumps(body)}\n\n".encode())

    def raw(self, data: bytes) -> None:
        """One chunk of the body; the empty one ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def refuse(self, status: int, headers: dict, body: dict) -> None:
        self.send_whole(status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode())

    def send_whole(self, status: int, headers: dict, data: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
