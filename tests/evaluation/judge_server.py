"""A judge of our own over real HTTP, which counts what it was asked. What it does is told item by item: the prompt of
item 7 holds "item <7>", and `plan` gives what happens at each time it is asked.
"""

import re
import time
from collections import Counter

from tests.streaming_server import StreamingHandler, StreamingServer, reset

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


class JudgeServer(StreamingServer):
    """`plan` maps an item to what happens, one word a time it is asked, the last one for all later times: a word of
    `REFUSALS`, "good", "cut", "other", "nameless", "malformed", "filtered", "empty", "echo" (it repeats the request's
    key), "drop" (the connection ends inside the reply), "hang" (it ends it without a word), "no-end" (the stream ends
    without a reason) or "late" (it finishes the reply, and the client is gone). Anything else is the reply's text.

    From `hold_after` replies on it holds the others back until `go` is set.
    `asked` counts requests of each item, `finished` those to which a whole reply was made: what a provider charges.
    """

    def __init__(self, plan=None, port: int = 0, delay: float = 0.0, served: str = "gpt-4-0613"):
        self.plan, self.delay, self.served = plan or {}, delay, served
        self.asked, self.finished, self.hold_after = Counter(), Counter(), None
        self.open, self.crashed = set(), False
        super().__init__(Handler, port)

    def crash(self) -> None:
        """Every connection breaks and none is taken any more, as when the process dies."""
        self.shutdown()
        self.server_close()
        with self.lock:
            self.crashed = True
            for connection in self.open:
                reset(connection)


class Handler(StreamingHandler):
    server: JudgeServer

    def answer(self, body: dict) -> None:
        server = self.server
        item = ITEM.search(body["messages"][-1]["content"])[1]
        with server.lock:
            words = server.plan.get(item, ["good"])
            word = words[min(server.asked[item], len(words) - 1)]
            server.asked[item] += 1
            server.open.add(self.connection)
            if server.crashed:
                reset(self.connection)
        try:
            time.sleep(server.delay)
            if server.hold_after is not None and sum(server.finished.values()) >= server.hold_after:
                server.go.wait(60)
            self.reply(item, word)
        finally:
            with server.lock:
                server.open.discard(self.connection)

    def reply(self, item: str, word: str) -> None:
        server = self.server
        if word in REFUSALS:
            return self.send_json(*REFUSALS[word])
        if word == "hang":
            return reset(self.connection)
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
        self.open_stream()
        half = len(text) // 2
        self.piece(model, {"role": "assistant", "content": text[:half]})
        if word == "drop":
            return reset(self.connection)
        if word == "late":
            # The last piece was made, and would be charged, but never gets out.
            with server.lock:
                server.finished[item] += 1
            server.go.wait(20)
            return reset(self.connection)
        if word == "no-end":
            self.piece(model, {"content": text[half:]})
            return self.end_stream()
        with server.lock:
            server.finished[item] += 1
        self.piece(model, {"content": text[half:]})
        self.piece(model, {}, reason)
        self.end_stream()
