"""People, organisations, tokens and what they allow, refused as the Hub refuses."""

import base64
import re
import secrets
import time
from dataclasses import dataclass, field, replace

from tests.hub.storage import Repo
from tests.hub.wire import REPO, Refusal, Request, Response, reply

BASE64 = re.compile(rb'"(?:content|sample)": ?"((?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2,3}=+)?)"')
WRITERS = ("admin", "write", "contributor")


@dataclass(frozen=True)
class Token:
    """`role` is "read", "write" or "fineGrained"; the last is allowed what `grants` says: for a namespace ("ann") or
    a repository ("datasets/ann/pairs") a set of "repo.content.read", "repo.write" and "discussion.write"."""

    person: str
    role: str
    grants: dict[str, frozenset[str]] = field(default_factory=dict)

    def allows(self, right: str, repo_name: str) -> bool:
        if self.role != "fineGrained":
            return self.role == "write" or right == "repo.content.read"
        namespace = repo_name.split("/")[-2]
        given = self.grants.get(namespace, frozenset()) | self.grants.get(repo_name, frozenset())
        return right in given or (right == "repo.content.read" and "repo.write" in given)


@dataclass(frozen=True)
class AppToken:
    """What an app got that somebody signed in to: it ends at `until`, in seconds since 1970, and is good for its OAuth
    `scopes`. `made` are the repositories that this app made, the only ones that "contribute-repos" is about.
    """

    person: str
    app: str
    scopes: frozenset[str]
    until: float
    made: set[str] = field(default_factory=set)
    role = "oauth"

    @property
    def grants(self) -> dict[str, frozenset[str]]:
        return {self.person: frozenset({"job.write"})} if "jobs" in self.scopes else {}

    def allows(self, right: str, repo_name: str) -> bool:
        namespace, new = repo_name.split("/")[-2], repo_name.endswith("/")
        wider = {"repo.content.read": {"read-repos"}, "discussion.write": {"write-discussions"}}.get(right, set())
        if namespace != self.person:
            return False
        if "manage-repos" in self.scopes or (not new and (wider | {"write-repos"}) & self.scopes):
            return True
        return "contribute-repos" in self.scopes and (new or repo_name in self.made)


ISSUED: set[str] = set()
"""Every token that a Hub of this process gave to somebody."""


class People:
    def __init__(self):
        self.names: list[str] = []
        self.organizations: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, Token | AppToken] = {}
        self._made: dict[str, set[str]] = {}

    def add(self, name: str, scopes, value: str | None) -> str:
        if name not in self.names:
            self.names.append(name)
        value = value or f"hf_{secrets.token_hex(17)}"
        ISSUED.add(value)
        if isinstance(scopes, str):
            if scopes not in ("read", "write"):
                raise ValueError(f"Scopes are 'read', 'write' or a dict of rights, not {scopes!r}.")
            self._tokens[value] = Token(name, scopes)
        else:
            rights = {place: [given] if isinstance(given, str) else given for place, given in scopes.items()}
            grants = {place: frozenset(given) for place, given in rights.items()}
            self._tokens[value] = Token(name, "fineGrained", grants)
        return value

    def issue(self, token: AppToken) -> str:
        """A new token for an app."""
        value = f"hf_{secrets.token_hex(17)}"
        ISSUED.add(value)
        self._tokens[value] = replace(token, made=self._made.setdefault(token.app, set()))
        return value

    def note_made(self, token: Token | AppToken, path: str) -> None:
        """Somebody made this repository."""
        if isinstance(token, AppToken):
            token.made.add(path)

    def expire(self, value: str) -> None:
        self._tokens[value] = replace(self._tokens[value], until=0.0)

    def revoke(self, value: str) -> None:
        del self._tokens[value]

    def identify(self, authorization: str) -> Token | AppToken | None:
        if not authorization:
            return None
        token = self._tokens.get(authorization.removeprefix("Bearer ").strip())
        if token is None or (isinstance(token, AppToken) and token.until < time.time()):
            raise Refusal(401, "Invalid credentials in Authorization header")
        return token

    def find_tokens(self, texts: list[str], body: bytes) -> tuple[str, ...]:
        """Whose tokens are in these texts or in the body (or in files within it), where none should be."""
        files = [base64.b64decode(found) for found in BASE64.findall(body)]
        joined = b"\n".join([*(text.encode() for text in texts), body, *files])
        return tuple(sorted({token.person for value, token in list(self._tokens.items()) if value.encode() in joined}))

    def role_in(self, person: str, namespace: str) -> str | None:
        """The person's role in the namespace; None is a stranger."""
        return "admin" if person == namespace else self.organizations.get(namespace, {}).get(person)

    def may_read(self, token: Token | None, repo: Repo) -> bool:
        if not repo.private:
            return True
        member = token is not None and self.role_in(token.person, repo.namespace) is not None
        return member and token.allows("repo.content.read", repo.path)

    def check_write(self, token: Token | None, repo: Repo) -> None:
        if token is None:
            raise Refusal(401, "Invalid username or password.")
        if token.role == "read":
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        if self.role_in(token.person, repo.namespace) not in WRITERS:
            raise Refusal(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        if not token.allows("repo.write", repo.path):
            raise Refusal(403, f"Forbidden: this token lacks the permission repo.write for {repo.path}")

    def check_discuss(self, token: Token | None, repo: Repo) -> None:
        if token is None:
            raise Refusal(401, "Invalid username or password.")
        if not (token.allows("discussion.write", repo.path) or token.allows("repo.write", repo.path)):
            raise Refusal(403, f"Forbidden: this token lacks the permission discussion.write for {repo.path}")

    def check_namespace(self, token: Token | None, kind: str, namespace: str) -> None:
        """May repositories be made, moved and deleted here?"""
        if token is None:
            raise Refusal(401, "Invalid username or password.")
        member = self.role_in(token.person, namespace) in WRITERS
        if not member or not token.allows("repo.write", f"{kind}/{namespace}/"):
            one = kind.removesuffix("s")
            raise Refusal(403, f'You don\'t have the rights to create a {one} under the namespace "{namespace}"')


def whoami(hub, request: Request) -> Response:
    token = request.token
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    access = {
        "displayName": f"{token.person}-{token.role}",
        "role": token.role,
        "createdAt": "2026-01-01T00:00:00.000Z",
    }
    if token.role == "fineGrained":
        access["fineGrained"] = {
            "canReadGatedRepos": False,
            "global": [],
            "scoped": [
                {"entity": {"type": _entity_type(place), "name": place}, "permissions": sorted(rights)}
                for place, rights in token.grants.items()
            ],
        }
    organizations = [
        {"type": "org", "name": name, "fullname": name, "roleInOrg": members[token.person]}
        for name, members in hub.people.organizations.items()
        if token.person in members
    ]
    return reply(
        {
            "type": "user",
            "id": f"{hub.people.names.index(token.person):024x}",
            "name": token.person,
            "fullname": token.person.title(),
            "avatarUrl": "/avatars/none.svg",
            "isPro": False,
            "canPay": False,
            "periodEnd": None,
            "orgs": organizations,
            "auth": {"type": "access_token", "accessToken": access},
        }
    )


def _entity_type(place: str) -> str:
    return place.partition("/")[0].removesuffix("s") if "/" in place else "user"


def check_access(hub, request: Request, kind: str, owner: str, name: str, write: str = "") -> Response:
    hub.open(request, kind, owner, name, "write" if write else "read")
    return reply({})


ROUTES = [
    ("GET", r"/api/whoami-v2", whoami),
    ("GET", REPO + r"/auth-check(?P<write>/write)?", check_access),
]
