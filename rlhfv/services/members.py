"""Who may sign in to this studio, for its owner on the page; the command line changes the same file."""

from dataclasses import dataclass

from rlhfv.errors import NotFound
from rlhfv.services.actor import Actor
from rlhfv.services.people import People
from rlhfv.settings import Settings


@dataclass(frozen=True)
class Member:
    """Somebody of the team; `itself` is who asks."""

    name: str
    role: str
    enabled: bool
    itself: bool


class Members:
    def __init__(self, settings: Settings):
        self.settings = settings

    def list(self, actor: Actor) -> tuple[Member, ...]:
        """Everybody, in the order of adding."""
        users = self._people(actor).users()
        return tuple(Member(user.name, user.role, user.enabled, user.visitor == actor.visitor) for user in users)

    def add(self, actor: Actor, name: str, role: str, password: str) -> None:
        """Raises InvalidData for a name that is taken or odd, an unknown role, a password that is too short."""
        self._people(actor).add(name, role, password)

    def disable(self, actor: Actor, name: str) -> None:
        """Ends somebody's access at once; what they saved stays. Raises InvalidData for the last owner."""
        self._people(actor).disable(name)

    def reset(self, actor: Actor, name: str, password: str) -> None:
        """A new password, and access again for who was disabled."""
        self._people(actor).reset(name, password)

    def _people(self, actor: Actor) -> People:
        actor.require("manage")
        if self.settings.auth is None:
            raise NotFound(
                "Nobody signs in to this studio.",
                "It was started without a file of users.",
                "Start it with --auth users.json.",
            )
        return People(self.settings.auth)
