"""A server of our own that speaks OpenAI's chat completions over real HTTP. What it does is the name of the model."""

import threading
import time

from tests.streaming_server import StreamingHandler, StreamingServer, reset

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


class OpenAIServer(StreamingServer):
    """`abandoned` counts streams that the client left. With a `key` nobody gets in without it. Three words come before
    `flow` is looked at, the rest when it is set."""

    def __init__(self, key: str = "", delay: float = 0.0, models: tuple[str, ...] = ()):
        self.key, self.delay, self.models = key, delay, models
        self.abandoned = self.pauses = 0
        self.flow = threading.Event()
        self.flow.set()
        super().__init__(Handler)


class Handler(StreamingHandler):
    server: OpenAIServer

    def left(self) -> None:
        with self.server.lock:
            self.server.abandoned += 1

    def answer(self, body: dict) -> None:
        name, server = body["model"], self.server
        given = self.headers.get("Authorization", "")
        if self.path != "/v1/chat/completions":
            return self.send_json(404, {}, {"detail": "Not Found"})
        if server.key and given != f"Bearer {server.key}":
            echoed = given.removeprefix("Bearer ")
            return self.send_json(401, {}, {"error": {"message": f"Incorrect API key provided: {echoed}."}})
        if name in REFUSALS:
            return self.send_json(*REFUSALS[name])
        if name == "unknown" or (server.models and name not in server.models):
            return self.send_json(404, {}, {"error": {"message": f"The model `{name}` does not exist.", "code": 404}})
        if name == "text-only" and any(isinstance(message["content"], list) for message in body["messages"]):
            return self.send_json(400, {}, {"error": {"message": TEXT_ONLY}})
        if name == "picky":
            for setting in ("seed", "temperature"):
                if setting in body:
                    detail = {
                        "type": "extra_forbidden",
                        "loc": ["body", setting],
                        "msg": "Extra inputs are not permitted",
                    }
                    return self.send_json(422, {}, {"detail": [{**detail, "input": "A" * 4000}]})
        if name == "newer" and "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return self.send_json(400, {}, {"error": {"message": message}})
        if name == "pausing" and server.pauses < 2:
            server.pauses += 1
            return self.send_json(429, {"Retry-After": "0"}, {"error": {"message": "Slow down"}})
        if name == "page":
            return self.send_whole(200, {"Content-Type": "text/html"}, b"<html>Welcome</html>")
        if name == "whole":
            message = {"message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
            return self.send_json(200, {}, {"choices": [message]})
        self.stream(name, body)

    def stream(self, name: str, body: dict) -> None:
        self.open_stream()
        words, reason, served = WORDS, "stop", {"path": "/srv/models/llava.gguf", "alias": "gpt-4o-2024-11-20"}
        model = served.get(name, name)
        self.piece(model, {"role": "assistant", "content": ""})
        if name == "silent":
            self.server.go.wait(20)
        if name == "thinks":
            for thought in ("It is", " a cat"):
                self.piece(model, {"reasoning_content": thought})
        if name == "thinks-aloud":
            words = ("<thi", "nk>Is it", " a dog? No.", "</thi", "nk>", "\n\n", *WORDS)
        if name == "only-thinks":
            words, reason = ("<think>", "hmm", " hmm"), "length"
        if name == "no-json":
            self.piece(model, {"content": "A"})
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
                reset(self.connection)
                raise ConnectionResetError
            if name == "fails" and number == 4:
                self.raw(b'data: {"error": {"message": "the engine died", "code": 500}}\n\n')
                return self.raw(b"")
            if name == "stalls" and number == 4:
                self.server.go.wait(20)
            if name == "drips":
                time.sleep(0.2)
            if number == 3:
                self.server.flow.wait(60)
            self.piece(model, {"content": word})
            time.sleep(delay)
        if name not in ("endless", "no-reason", "deaf"):
            self.piece(model, {}, reason)
        while name == "endless":
            self.piece(model, {"content": " and"})
            time.sleep(0.01)
        self.end_stream()
