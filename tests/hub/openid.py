"""The Hub's OpenID provider: discovery, a page that asks for consent, tokens, who somebody is.

`hub.openid.app(redirect)` registers an app, as a Space with `hf_oauth: true` is registered; whoever opens the page of
consent is `hub.openid.person`. What is issued are tokens of the Hub like any other, with OAuth scopes and an end.
"""

import base64
import hashlib
import html
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

from tests.hub.people import AppToken
from tests.hub.signing import public_key, sign
from tests.hub.wire import Refusal, Request, Response, reply

SCOPES = ("openid profile email read-repos contribute-repos write-repos manage-repos jobs inference-api").split()
SECONDS_OF_A_CODE = 60
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Authorize</title>
<h1>{app} wants to act for {person}</h1><ul>{scopes}</ul>
<form method="post"><input type="hidden" name="request" value="{request}">
<button name="decision" value="allow">Authorize</button> <button name="decision" value="refuse">Cancel</button></form>
"""


@dataclass(frozen=True)
class App:
    """`redirect` is where people may be sent back to: an address without its query."""

    id: str
    secret: str = field(repr=False)
    redirect: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class _Asked:
    """What an app asked of somebody, and where the answer goes."""

    app: App
    person: str
    redirect: str
    scopes: tuple[str, ...]
    state: str
    nonce: str
    challenge: str
    until: float


class OpenId:
    """`seconds` is how long a token holds; `person` who has signed in to the Hub in the browser."""

    def __init__(self):
        self.apps: dict[str, App] = {}
        self.person: str | None = None
        self.seconds = 8 * 3600
        self.issued: list[str] = []
        self._asked: dict[str, _Asked] = {}
        self._codes: dict[str, _Asked] = {}

    def app(self, redirect: str, scopes: str = "openid profile contribute-repos jobs") -> dict[str, str]:
        """The variables that a Space of this app finds."""
        app = App(secrets.token_hex(8), secrets.token_hex(16), redirect, frozenset(scopes.split()))
        self.apps[app.id] = app
        return {"OAUTH_CLIENT_ID": app.id, "OAUTH_CLIENT_SECRET": app.secret, "OAUTH_SCOPES": scopes}

    def client(self, authorization: str) -> App | None:
        """The app that shows its name and secret."""
        if not authorization.startswith("Basic "):
            return None
        name, _, secret = base64.b64decode(authorization[6:]).decode().partition(":")
        app = self.apps.get(name)
        if app is None or app.secret != secret:
            raise Refusal(401, "invalid_client")
        return app

    def ask(self, query: dict[str, str], person: str) -> tuple[str, _Asked]:
        """Notes what is asked; returns its name."""
        app = self.apps.get(query.get("client_id", ""))
        if app is None:
            raise Refusal(400, "Invalid client_id")
        redirect = query.get("redirect_uri", "")
        if redirect.partition("?")[0] != app.redirect:
            raise Refusal(400, "Invalid redirect_uri")
        scopes = tuple(query.get("scope", "").split())
        if query.get("response_type") != "code" or not {"openid"} <= {*scopes} <= app.scopes:
            raise Refusal(400, "Invalid scope or response_type")
        asked = _Asked(
            app, person, redirect, scopes, *(query.get(name, "") for name in ("state", "nonce", "code_challenge")), 0.0
        )
        self._asked[name := secrets.token_urlsafe(16)] = asked
        return name, asked

    def decide(self, name: str, allowed: bool) -> str:
        """Where the browser goes then."""
        asked = self._asked.pop(name, None)
        if asked is None:
            raise Refusal(400, "Nothing was asked")
        if allowed:
            code = secrets.token_urlsafe(16)
            self._codes[code] = _Asked(**{**vars(asked), "until": time.time() + SECONDS_OF_A_CODE})
            answer = {"code": code}
        else:
            answer = {"error": "access_denied", "error_description": "The user refused the request"}
        mark = "&" if "?" in asked.redirect else "?"
        return asked.redirect + mark + urlencode({**answer, "state": asked.state})

    def redeem(self, app: App, code: str, redirect: str, verifier: str) -> _Asked:
        asked = self._codes.pop(code, None)
        given = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        if (
            asked is None
            or asked.app != app
            or asked.redirect != redirect
            or asked.until < time.time()
            or (asked.challenge and asked.challenge != given)
        ):
            raise Refusal(400, "invalid_grant")
        return asked


def discover(hub, request: Request) -> Response:
    at = hub.endpoint
    return reply(
        {
            "issuer": at,
            "authorization_endpoint": f"{at}/oauth/authorize",
            "token_endpoint": f"{at}/oauth/token",
            "userinfo_endpoint": f"{at}/oauth/userinfo",
            "jwks_uri": f"{at}/oauth/jwks",
            "scopes_supported": SCOPES,
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    )


def ask_for_consent(hub, request: Request) -> Response:
    if hub.openid.person is None:
        raise Refusal(401, "Sign in to the Hub first.")
    query = {name: texts[-1] for name, texts in request.query.items()}
    name, asked = hub.openid.ask(query, hub.openid.person)
    scopes = "".join(f"<li>{html.escape(scope)}</li>" for scope in asked.scopes)
    page = PAGE.format(app=asked.app.id, person=html.escape(asked.person), scopes=scopes, request=name)
    return Response(body=page.encode(), headers={"Content-Type": "text/html; charset=utf-8"})


def decide(hub, request: Request) -> Response:
    given = parse_qs(request.body.decode())
    target = hub.openid.decide(given["request"][0], given["decision"] == ["allow"])
    return Response(303, headers={"Location": target})


def give_token(hub, request: Request) -> Response:
    given = {name: texts[-1] for name, texts in request.form().items()}
    app = request.client
    if app is None or given.get("grant_type") != "authorization_code":
        raise Refusal(401, "invalid_client")
    code, redirect, verifier = (given.get(name, "") for name in ("code", "redirect_uri", "code_verifier"))
    asked = hub.openid.redeem(app, code, redirect, verifier)
    now, seconds = int(time.time()), hub.openid.seconds
    value = hub.people.issue(AppToken(asked.person, app.id, frozenset(asked.scopes), now + seconds))
    hub.openid.issued.append(value)
    claims = {**identity(hub, asked.person), "iss": hub.endpoint, "aud": app.id, "nonce": asked.nonce}
    signed = sign({**claims, "iat": now, "exp": now + 300})
    token = {"access_token": value, "token_type": "bearer", "expires_in": seconds, "scope": " ".join(asked.scopes)}
    return reply({**token, "id_token": signed})


def identity(hub, person: str) -> dict:
    """What is said of somebody; in which organisations they are, but not in which role."""
    number = hub.people.names.index(person)
    return {
        "sub": f"{number:024x}",
        "name": person.title(),
        "preferred_username": person,
        "profile": f"{hub.endpoint}/{person}",
        "picture": f"{hub.endpoint}/avatars/none.svg",
        "website": "",
        "orgs": [
            {"sub": name, "name": name, "preferred_username": name}
            for name, members in hub.people.organizations.items()
            if person in members
        ],
    }


def userinfo(hub, request: Request) -> Response:
    if request.token is None:
        raise Refusal(401, "Invalid username or password.")
    return reply(identity(hub, request.token.person))


def keys(hub, request: Request) -> Response:
    return reply({"keys": [public_key()]})


ROUTES = [
    ("GET", r"/\.well-known/openid-configuration", discover),
    ("GET", r"/oauth/authorize", ask_for_consent),
    ("POST", r"/oauth/authorize", decide),
    ("POST", r"/oauth/token", give_token),
    ("GET", r"/oauth/userinfo", userinfo),
    ("GET", r"/oauth/jwks", keys),
]
