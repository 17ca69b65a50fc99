"""Signing in to a Space with an account of the Hub: Gradio's own way, without what it would lose or give away.

Gradio keeps what the Hub answers, the token too, in a cookie that is signed and can be read. Here its session is a
dictionary of this process, one a visitor, and the token goes on to the services; nothing of it leaves the server.
"""

import asyncio
import html
import logging
from collections import OrderedDict
from dataclasses import dataclass
from importlib import resources
from string import Template
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlhfv.services.sign_in import SignIn
from rlhfv.settings import Space
from rlhfv.studio.visitor import actor, with_actor

LOGIN, CALLBACK, LOGOUT = "/login/huggingface", "/login/callback", "/logout"
MOST_SESSIONS = 10_000
MOST_TRIES = 2
_log = logging.getLogger(__name__)


class HubSignIn:
    """Inside of `VisitorCookie`: gives every request the rights of the account that its visitor signed in with."""

    def __init__(self, app: ASGIApp, accounts: SignIn, space: Space):
        self.app, self.accounts, self.space = app, accounts, space
        # What lies here belongs to sign-ins that are under way: those that nobody ends go with the oldest.
        self._sessions: OrderedDict[str, dict] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        visitor = actor(Request(scope)).visitor
        session = self._sessions.get(visitor, {})
        path = scope["path"].rstrip("/")
        if path == LOGOUT:
            self.accounts.end(visitor)
        scope = with_actor(scope, self.accounts.actor(visitor)) | {"session": session}
        if path in (LOGIN, CALLBACK):
            await self._sign_in(scope, receive, send, visitor, session, path == CALLBACK)
            self._keep(visitor, session)
        else:
            await self.app(scope, receive, send)

    async def _sign_in(self, scope, receive, send, visitor: str, session: dict, comes_back: bool) -> None:
        query = {name: texts[-1] for name, texts in parse_qs(scope["query_string"].decode("latin-1")).items()}
        target = local_target(query.get("_target_url", ""))

        async def tell(page: "Page") -> None:
            session.clear()
            await page.response(target, self.space)(scope, receive, send)

        if comes_back and query.get("error"):
            return await tell(REFUSED if query["error"] == "access_denied" else FAILED)
        tries = query.get("_nb_redirects", "0")
        if comes_back and not session and (not tries.isdecimal() or int(tries) >= MOST_TRIES):
            return await tell(NO_COOKIE)
        begun = False

        async def take_over(message: Message) -> None:
            nonlocal begun
            # Before anything is sent: whoever follows the redirect is signed in.
            if message["type"] == "http.response.start" and (given := session.pop("oauth_info", None)):
                await asyncio.to_thread(self.accounts.begin, visitor, given)
                session.clear()
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, take_over)
        except Exception as error:
            if begun:
                raise
            # The text of such an error may hold what the Hub answered: its kind is enough.
            _log.warning("Signing in on the Hub failed: %s", type(error).__name__)
            await tell(FAILED)

    def _keep(self, visitor: str, session: dict) -> None:
        self._sessions.pop(visitor, None)
        if session:
            self._sessions[visitor] = session
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)


def local_target(given: str) -> str:
    """The page of this studio that an address names: path and query, never another host."""
    try:
        parts = urlsplit(given)
    except ValueError:
        return "/"
    path = "/" + parts.path.lstrip("/\\")
    return quote(path, safe="/%") + (f"?{quote(parts.query, safe='=&%+,.-_~')}" if parts.query else "")


@dataclass(frozen=True)
class Page:
    """What somebody reads whose sign-in did not come about, with two ways on."""

    title: str
    why: str
    status: int = 200
    again: str = "Sign in after all"
    kept: str = "Nothing was published, and nothing is lost: your answers, corrections and drafts are as they were."

    def response(self, target: str, space: Space) -> HTMLResponse:
        again, where, label = f"{LOGIN}?_target_url={quote(target, safe='')}", "", self.again
        if self is NO_COOKIE and space.host:
            again, where, label = (
                f"https://{space.host}{target}",
                'target="_blank" rel="noopener"',
                "Open it by itself",
            )
        texts = {"title": self.title, "why": self.why, "kept": self.kept, "back": target, "again": again}
        labels = {"back_label": "Back to the studio", "again_label": label}
        escaped = {name: html.escape(text) for name, text in (texts | labels).items()}
        return HTMLResponse(_PAGE.substitute(escaped, again_where=where), self.status, {"cache-control": "no-store"})


_PAGE = Template(resources.files(__package__).joinpath("sign_in.html").read_text(encoding="utf-8"))
REFUSED = Page(
    "You are not signed in",
    "On the Hub you chose not to let this Space act in your name. Chatting and correcting go on without that; only "
    "publishing and jobs of the Hub need it.",
)
FAILED = Page(
    "Signing in did not work",
    "The Hub did not answer as it should, or the way there took too long. That is mostly over in a minute.",
    502,
    "Try again",
)
NO_COOKIE = Page(
    "Your browser forgot who you are",
    "It kept no cookie of this page, so that the answer of the Hub could not be matched with your visit. Inside the "
    "frame of another site some browsers keep none; on a page of its own it works.",
    again="Try again",
)
