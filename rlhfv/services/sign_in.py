"""Who signed in to a Space with their account of the Hub, and what they may do here.

The token goes to `Publishing`, which keeps it in memory for its owner alone; here stay the name and the rights. They
hold as long as the token does.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from rlhfv.errors import StudioError
from rlhfv.publishing.token import Token
from rlhfv.services.actor import RIGHTS, Actor
from rlhfv.services.people import ROLES
from rlhfv.services.publishing import Publishing
from rlhfv.settings import Settings

STRANGER = frozenset({"chat", "correct", "train"})
"""What anybody may do on a public page: all of it concerns their own answers, pairs and runs."""
OWN_PUBLISHING = frozenset({"publish"})
"""Where people can sign in on the Hub anybody may publish: their own pairs, with the token they get by it."""
ROLE_OF = {"admin": "owner", "write": "reviewer", "contributor": "annotator", "read": "annotator", "": "annotator"}
"""The role here of a member of the organisation that a Space belongs to, by the role there, which may be untold."""
LONGEST_SECONDS = 30 * 24 * 3600.0

_log = logging.getLogger(__name__)


def stranger_rights(settings: Settings) -> frozenset[str]:
    """What somebody may do who did not sign in: all on a machine of one person, nothing in a team, and on a public
    page what concerns their own answers, pairs and runs.
    """
    if settings.single_user:
        return RIGHTS
    if settings.team:
        return frozenset()
    return STRANGER | OWN_PUBLISHING if settings.hub_sign_in else STRANGER


class SignIn:
    def __init__(self, settings: Settings, publishing: Publishing):
        self.settings, self.publishing = settings, publishing
        self._rights = stranger_rights(settings)
        self._accounts: dict[str, tuple[str, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def begin(self, visitor: str, given: Mapping[str, Any]) -> Actor:
        """Somebody came back from the Hub. `given` is its answer with "access_token", "userinfo" and "expires_at" in
        seconds since 1970. The Hub is asked in which organisations they are.

        Raises SignInNeeded without a token, ValueError for an answer without a name.
        """
        token, name = Token(given.get("access_token")), (given.get("userinfo") or {}).get("preferred_username")
        if not isinstance(name, str) or not name:
            raise ValueError("the Hub did not say who it is")
        until = given.get("expires_at")
        seconds = min(float(until) - time.time(), LONGEST_SECONDS) if until else 8 * 3600.0
        stranger = Actor(visitor, rights=self._rights)
        self.publishing.sign_in(stranger, token.secret, name, seconds)
        rights = self._rights | self._role_rights(stranger, name)
        with self._lock:
            self._accounts[visitor] = name, rights
        return Actor(visitor, name, rights)

    def actor(self, visitor: str) -> Actor:
        """The visitor as they may act now; a stranger once the sign-in has ended."""
        stranger = Actor(visitor, rights=self._rights)
        with self._lock:
            account = self._accounts.get(visitor)
        if account is None:
            return stranger
        if self.publishing.signed_in_as(stranger) is None:
            with self._lock:
                self._accounts.pop(visitor, None)
            return stranger
        return Actor(visitor, *account)

    def end(self, visitor: str) -> None:
        with self._lock:
            self._accounts.pop(visitor, None)
        self.publishing.sign_out(Actor(visitor, rights=self._rights))

    def _role_rights(self, stranger: Actor, name: str) -> frozenset[str]:
        """What the owner of the Space and members of its organisation may do more than others."""
        author = self.settings.space.author if self.settings.space else ""
        if not author:
            return frozenset()
        if name == author:
            return ROLES["owner"]
        try:
            roles = self.publishing.hub(stranger).roles()
        except StudioError as error:
            _log.warning("Whether %s belongs to %s could not be asked: %s", name, author, error)
            return frozenset()
        return ROLES[ROLE_OF.get(roles[author], "annotator")] if author in roles else frozenset()
