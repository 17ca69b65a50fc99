"""Who is on the page: a random id in a cookie that the server sets and signs, and that no script can read; in a team
the person who signed in.
"""

import contextlib
import hashlib
import hmac
import json
import logging
import os
import secrets
import tempfile
from pathlib import Path

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlhfv.errors import Forbidden, StudioError
from rlhfv.services.actor import RIGHTS, Actor
from rlhfv.services.people import People
from rlhfv.studio.endpoints import is_closed
from rlhfv.studio.gate import PLACE

COOKIE = "rlhfv_visitor"
HEADER = "x-rlhfv-actor"
YEAR = 365 * 24 * 3600
log = logging.getLogger(__name__)


class VisitorCookie:
    """Gives every request a visitor. A cookie that this studio did not sign is refused: a new id takes its place.

    `rights` are those of whoever has not signed in. With `people`, what the others may do is asked at each request, so
    that an account that was disabled ends at once, and so do all sessions of somebody who got a new password. `framed`
    says that the page is shown inside of pages of another site, as that of a Space is.
    """

    def __init__(
        self,
        app: ASGIApp,
        key: bytes,
        rights: frozenset[str] = RIGHTS,
        people: People | None = None,
        framed: bool = False,
    ):
        self.app, self.key, self.rights, self.people, self.framed = app, key, rights, people, framed
        self._passwords: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if is_closed(scope["path"]):
            return await PlainTextResponse("There is nothing here.", status_code=404)(scope, receive, send)
        if self.people is not None and (who := self._person(scope)) is not None:
            return await self.app(with_actor(scope, who), receive, send)
        given = read_cookie(scope)
        visitor = verify(given, self.key)
        if visitor is not None:
            return await self.app(with_actor(scope, Actor(visitor, rights=self.rights)), receive, send)
        if given is not None:
            log.warning("A visitor cookie that this studio did not issue was refused; a new visitor id was given.")
        visitor = secrets.token_hex(16)
        cookie = f"{COOKIE}={sign(visitor, self.key)}; Path=/; Max-Age={YEAR}; HttpOnly; {self._sites(scope)}"

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        await self.app(with_actor(scope, Actor(visitor, rights=self.rights)), receive, send_with_cookie)

    def _sites(self, scope: Scope) -> str:
        """For requests from which sites the browser sends the cookie."""
        headers = {name: value for name, value in scope["headers"] if name == b"x-forwarded-proto"}
        proxied = headers.get(b"x-forwarded-proto", b"").split(b",")[0].strip()
        if scope["scheme"] != "https" and proxied != b"https":
            return "SameSite=Lax"
        # In a frame it is a third party's. Partitioned, it is sent only where it was set: in the frame of that site.
        return "SameSite=None; Secure; Partitioned" if self.framed else "SameSite=Lax; Secure"

    def _person(self, scope: Scope) -> Actor | None:
        """Who signed in, by the cookie and the list that Gradio keeps of those who did."""
        served = scope["app"]
        session = next(
            (
                token
                for kind in ("access-token", "access-token-unsecure")
                if (token := read_cookie(scope, f"{kind}-{served.cookie_id}")) in served.tokens
            ),
            None,
        )
        if session is None:
            return None
        try:
            person = self.people.user(served.tokens[session])
            if self._passwords.setdefault(session, person.password) != person.password:
                return None
            return self.people.actor(person.name)
        except StudioError:
            return None


def sign(visitor: str, key: bytes) -> str:
    """The cookie's value for a visitor id."""
    return f"{visitor}.{hmac.new(key, visitor.encode(), hashlib.sha256).hexdigest()}"


def verify(value: str | None, key: bytes) -> str | None:
    """The visitor id of a cookie that was signed with `key`, else None."""
    visitor, dot, _ = (value or "").partition(".")
    genuine = bool(dot) and value.isascii() and hmac.compare_digest(value, sign(visitor, key))
    return visitor if genuine else None


def read_cookie(scope: Scope, wanted: str = COOKIE) -> str | None:
    for name, value in scope["headers"]:
        if name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, given = part.strip().partition("=")
                if key == wanted:
                    return given
    return None


def read_key(data_dir: Path) -> bytes:
    """The secret that signs visitor ids: made once, kept beside the store, readable by its owner only."""
    path = data_dir / "visitors.key"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=data_dir, prefix=".visitors-") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            # A link appears whole or not at all: of two processes that start at once, both read the same key.
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_bytes()


def actor(request: gr.Request) -> Actor:
    """The visitor of an event or a request, as the services want them; raises `Forbidden` without one."""
    given = request.headers.get(HEADER)
    if not given:
        raise Forbidden(
            "This request has no visitor.", "The server gives every request one.", "Reload the page and try again."
        )
    visitor, name, rights = json.loads(given)
    return Actor(visitor, name, frozenset(rights), request.headers.get(PLACE) or "")


def with_actor(scope: Scope, who: Actor) -> Scope:
    """The request of this actor."""
    # Gradio hands headers to its handlers, the scope's own state it does not; what a client sent there is dropped.
    headers = [(name, value) for name, value in scope["headers"] if name != HEADER.encode()]
    return {**scope, "headers": [*headers, (HEADER.encode(), describe(who).encode("ascii"))]}


def describe(who: Actor) -> str:
    """What the header says."""
    return json.dumps([who.visitor, who.name, sorted(who.rights)])
