"""What the areas of the Hub speak in: a request, a response, a refusal, and the shape of a route.

An area is a module with a list `ROUTES` of (method, pattern, function). The pattern must match the whole path as it
came over the wire, still quoted; the function gets the Hub, the request and the pattern's groups, unquoted.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

KIND = r"/api/(?P<kind>models|datasets|spaces)"
REPO = KIND + r"/(?P<owner>[^/]+)/(?P<name>[^/]+)"
REVISION = r"/(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+)"

Route = tuple[str, str, Callable]


@dataclass
class Request:
    """One request as the tests may look at it: who asked is a name, and no header holds a secret."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    person: str | None = None
    known: bool = False
    done: bool = False
    received: int = 0
    status: int | None = None
    fault: str | None = None
    leaks: tuple[str, ...] = ()
    body: bytes = field(default=b"", repr=False)
    token: Any = field(default=None, repr=False)
    client: Any = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def json(self) -> Any:
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refusal(400, f"Invalid JSON: {error}") from None

    def form(self) -> dict[str, list[str]]:
        """The body's fields: a form, as the client sends it, or JSON."""
        if "json" in self.headers.get("content-type", ""):
            return {key: value if isinstance(value, list) else [value] for key, value in self.json().items()}
        return parse_qs(self.body.decode())

    def flag(self, name: str) -> bool:
        return self.query.get(name, [""])[-1].lower() in ("1", "true")


@dataclass
class Response:
    """With a `stream` the answer comes piece by piece, and `body` is empty."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None


class Refusal(Exception):
    """An answer that is no success. `code` is the Hub's `X-Error-Code`, from which the client makes its exceptions."""

    def __init__(self, status: int, message: str, code: str | None = None, **extra: Any):
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, message, code, extra
        self.headers: dict[str, str] = {}

    def response(self) -> Response:
        headers = {"X-Error-Message": self.message, **self.headers}
        if self.code:
            headers["X-Error-Code"] = self.code
        answer = reply({"error": self.message, **self.extra}, self.status)
        return Response(self.status, answer.body, {**answer.headers, **headers})


def reply(value: Any, status: int = 200, **headers: str) -> Response:
    named = {key.replace("_", "-"): text for key, text in headers.items()}
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8", **named})


def reply_page(hub, request: Request, items: Sequence, size: int) -> Response:
    """One page of a listing; a `Link` header leads to the next one."""
    start = int(request.query.get("cursor", ["0"])[0])
    answer = reply(list(items[start : start + size]))
    if start + size < len(items):
        query = urlencode({**request.query, "cursor": [str(start + size)]}, doseq=True)
        answer.headers["Link"] = f'<{hub.endpoint}{request.path}?{query}>; rel="next"'
    return answer
