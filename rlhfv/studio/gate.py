"""What happens to a request before anybody looks at it: other sites' pages are refused, networks are counted."""

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import gradio.routes
from gradio.route_utils import CustomCORSMiddleware
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rlhfv.services.actor import Actor
from rlhfv.services.limits import Limits, TooMany

PLACE = "x-rlhfv-place"
UPLOAD = "/gradio_api/upload"
PORTS = {"http": 80, "https": 443}
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
USUAL_BYTES, MOST_WORTH = 5_000_000, 100


class Gate:
    """The outermost part of the app of ours. `hosts` are names of this studio that its proxy may not pass on; behind a
    proxy that is `trusted`, as on a Space, the visitor's address is the one that it says. With `local` only this
    machine's own names and `hosts` are answered."""

    def __init__(
        self,
        app: ASGIApp,
        key: bytes,
        limits: Limits,
        hosts: tuple[str, ...] = (),
        trusted: bool = False,
        local: bool = False,
    ):
        self.app, self.key, self.limits, self.hosts, self.trusted, self.local = app, key, limits, hosts, trusted, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        # A site whose name is pointed at 127.0.0.1 once its page is open (DNS rebinding) is the page's own site.
        if self.local and _name(headers.get("host", "")) not in {*LOCAL_NAMES, *self.hosts}:
            return await _MISDIRECTED(scope, receive, send)
        if not is_own(headers, self.hosts):
            return await _FOREIGN(scope, receive, send)
        place = self._place(scope, headers)
        if self.limits and scope["method"] == "POST" and scope["path"].rstrip("/") == UPLOAD:
            try:
                sender = Actor(f"file from {place}", rights=frozenset(), place=place)
                self.limits.take(sender, "upload", worth(headers.get("content-length", "")))
            except TooMany as error:
                return await _refused(error)(scope, receive, send)
        # What a client sent there is dropped.
        kept = [(name, value) for name, value in scope["headers"] if name != PLACE.encode()]
        if place:
            kept.append((PLACE.encode(), place.encode()))
        await self.app({**scope, "headers": kept}, receive, send)

    def _place(self, scope: Scope, headers: Headers) -> str:
        """The visitor's network, as no address can be read off; "" where nobody counts by it."""
        if not self.limits:
            return ""
        forwarded = headers.getlist("x-forwarded-for") if self.trusted else []
        address = network(",".join(forwarded)) or network((scope.get("client") or ("",))[0])
        return hmac.new(self.key, address.encode(), hashlib.sha256).hexdigest()[:16] if address else ""


def worth(length: str) -> int:
    """How many files of usual size a large one is worth; one that does not say its size, very many."""
    return 1 + int(length) // USUAL_BYTES if length.isascii() and length.isdecimal() else MOST_WORTH


def is_own(headers: Headers, hosts: tuple[str, ...] = ()) -> bool:
    """Whether a request is not one of another site's page. Browsers say from which site a page is and let no page say
    it for them; what is no browser need not say anything."""
    origin = headers.get("origin")
    if origin is None:
        return True
    if site := headers.get("sec-fetch-site"):
        return site in ("same-origin", "none")
    asked, scheme = _host(origin), origin.partition(":")[0]
    own = (headers.get("host", ""), *hosts)
    return asked is not None and asked in {_host(f"{scheme}://{name}") for name in own}


def is_local(host: str) -> bool:
    """Whether what is served at that address is reached from this machine only."""
    address = _address(host)
    return address.is_loopback if address else host.lower() == "localhost"


def network(forwarded: str) -> str:
    """The network of who asks, from a list of addresses that each proxy added one to. What comes first in it anybody
    can write; the last public one was written by the proxy in front of this machine. Of an IPv6 address the first 64
    bits are a household's."""
    found = [address for part in forwarded.split(",") if (address := _address(part))]
    public = [address for address in found if address.is_global]
    if not found:
        return ""
    address = (public or found)[-1]
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


@contextmanager
def own_origin_only(hosts: tuple[str, ...]) -> Iterator[None]:
    """An app that is made in here allows no other site. Gradio's own check lets every site read an app that is not on
    localhost, and it answers before anything of ours is asked."""

    class OwnOriginOnly(CustomCORSMiddleware):
        def is_valid_origin(self, request_headers: Headers) -> bool:
            return is_own(request_headers, hosts)

    before = gradio.routes.CustomCORSMiddleware
    gradio.routes.CustomCORSMiddleware = OwnOriginOnly
    try:
        yield
    finally:
        gradio.routes.CustomCORSMiddleware = before


def _host(address: str) -> tuple[str, int | None] | None:
    """Name and port; None for what has none, such as "null"."""
    try:
        parts = urlsplit(address.strip().lower())
        return (parts.hostname, parts.port or PORTS.get(parts.scheme)) if parts.hostname else None
    except ValueError:
        return None


def _name(host: str) -> str:
    found = _host(f"http://{host}")
    return found[0].removesuffix(".") if found else ""


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = text.strip().strip('"')
    text = text[1:].partition("]")[0] if text.startswith("[") else text
    text = text.rpartition(":")[0] if text.count(":") == 1 else text
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _refused(error: TooMany) -> PlainTextResponse:
    wait = {"retry-after": str(max(1, round(error.seconds)))}
    return PlainTextResponse(f"{error.what} {error.why} {error.fix}", 429, wait)


_MISDIRECTED = PlainTextResponse(
    "This studio does not go by the name in that address. On this machine it is http://localhost or http://127.0.0.1 "
    "with its port; where a proxy passes another name on, start it with --public-host NAME.",
    421,
)
_FOREIGN = PlainTextResponse(
    json.dumps(
        {
            "detail": "This request is from a page of another site. Only this studio's own page may send any. Open "
            "the studio's own address; behind a proxy, pass the header Host on."
        }
    ),
    403,
    media_type="application/json",
)
